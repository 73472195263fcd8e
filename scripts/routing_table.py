"""Measure MambaIRv2-light with several routing seeds: docs/results/routing.json and a table of docs/mambairv2.md.

    python scripts/routing_table.py 'linears, 4 bits=CHECKPOINT' ... --benchmark BENCHMARK --sets Set5,Set14

Each network draws its prompts anew for each seed. PSNR-Y as in scripts/compress_table.py. What the record has is not
measured again; without networks, only the table is written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from compress_table import SETS, add_set
from markers import fill
from tabulate import tabulate

from compsrt_basicsr.archs.routing import same_noise
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

ROOT = Path(__file__).resolve().parents[1]
RECORD, PAGE = ROOT / 'docs' / 'results' / 'routing.json', ROOT / 'docs' / 'mambairv2.md'


def table(record: dict[str, Any]) -> str:
    """Returns for each network and set the mean over the seeds, and the values of the seeds."""
    rows = []
    measured = [name for name in SETS if any(name in sets for seeds in record.values() for sets in seeds.values())]
    for network, seeds in record.items():
        cells = []
        for name in measured:
            found = [np.mean(list(sets[name].values())) for _, sets in sorted(seeds.items()) if name in sets]
            each = ' / '.join(f'{value:.3f}' for value in found)
            cells.append(f'{np.mean(found):.3f} ({each})' if len(found) > 1 else each)
        rows.append([network, *cells])
    return tabulate(rows, ['network', *measured], tablefmt='github', disable_numparse=True)


@click.command()
@click.argument('networks', nargs=-1, metavar='[NAME=MODEL]...')
@click.option('--benchmark', type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option('--sets', default=','.join(SETS), show_default=True)
@click.option('--seeds', default='0,1', show_default=True)
def main(networks: tuple[str, ...], benchmark: Path | None, sets: str, seeds: str) -> None:
    """Measure the networks MODEL with each seed, and write the table."""
    record: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    if networks and benchmark is None:
        raise click.UsageError('Give --benchmark.')
    for name, _, file in (network.rpartition('=') for network in networks):
        assert benchmark is not None
        model = load_network(file)
        for test_set in sets.split(','):
            for seed in seeds.split(','):
                found = record.setdefault(name, {}).setdefault(seed, {})
                with same_noise(int(seed), model.network):
                    if add_set(found, benchmark / test_set, model, f'{name}, seed {seed}'):
                        write_text(RECORD, json_text(record, indent=1))
    write_text(PAGE, fill(PAGE.read_text(encoding='utf-8'), {'routing': table(record)}))


if __name__ == '__main__':
    main()
