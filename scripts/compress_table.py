"""Measure what `compsrt compress` costs real networks: docs/results/compress.json and the table of docs/compress.md.

    python scripts/compress_table.py dctlsa_x2.pt dctlsa_x4.pt --benchmark BENCHMARK --data PHOTOS --work WORK

Runs the command for each network, scheme and effort, and measures the packed file on BENCHMARK/{Set5,Set14,B100} with
HR/NAME.png and LR_bicubic/XS/NAMExS.png: PSNR-Y by BasicSR's metric, whole images, a border of as many pixels as the
scale left out. What the record has is not measured again; `--force` drops it first, except for full precision. WORK
keeps the outputs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from markers import fill
from tabulate import tabulate

from compsrt_basicsr.checkpoints.load import LoadedNetwork, load_network
from compsrt_basicsr.compression.quality import psnr_y
from compsrt_basicsr.data.images import read_image
from compsrt_basicsr.inference.upscale import UpscaleSettings, upscale
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

ROOT = Path(__file__).resolve().parents[1]
RECORD, PAGE = ROOT / 'docs' / 'results' / 'compress.json', ROOT / 'docs' / 'compress.md'
SETS = ('Set5', 'Set14', 'B100')
CASES = ('w8a8 seconds', 'w4a8 seconds', 'w4a4 seconds', 'w4a8 minutes', 'w4a4 minutes')
FLOAT = 'full precision'


def psnr_of(model: LoadedNetwork, folder: Path) -> dict[str, float]:
    """Returns PSNR-Y in dB by image of a test set."""
    found = {}
    for high in sorted((folder / 'HR').glob('*.png')):
        small = read_image(folder / f'LR_bicubic/X{model.scale}/{high.stem}x{model.scale}.png')
        original, small = (x if x.ndim == 3 else np.stack([x] * 3, -1) for x in (read_image(high), small))
        result = upscale(model, small.astype(np.float32) / 255, UpscaleSettings(tile=0))
        found[high.stem] = psnr_y(result, original, model.scale)
    return found


def add_set(found: dict[str, Any], folder: Path, model: LoadedNetwork | Path, what: str) -> bool:
    """Measures a model, or one that is loaded now, on a test set unless `found` has it; returns whether it did."""
    if folder.name in found:
        return False
    start = time.monotonic()
    values = psnr_of(load_network(model) if isinstance(model, Path) else model, folder)
    found[folder.name] = values
    mean = float(np.mean(list(values.values())))
    click.echo(f'{what}, {folder.name}: {mean:.3f} dB in {time.monotonic() - start:.0f} s')
    return True


def compressed(network: Path, case: str, data: Path, work: Path) -> tuple[Path, dict[str, Any]]:
    """Runs the command, unless WORK has its report; returns the packed file and what the report says."""
    scheme, effort = case.split()
    out = work / f'{network.stem}_{scheme}_{effort}'
    if not (out / 'report.json').is_file():
        words = ['compress', network, '-o', out, '--scheme', scheme, '--effort', effort, '--data', data]
        code = 'from compsrt_basicsr.cli.compsrt import main; main()'
        subprocess.run([sys.executable, '-c', code, *map(str, words)], check=True)
    report = json.loads((out / 'report.json').read_text())
    kept = {key: report[key] for key in ('shares', 'training', 'version')}
    return out / f'{network.stem}_{scheme}.safetensors', kept


def table(record: dict[str, Any]) -> str:
    """Returns the table: for each case the bytes and, for each set, the PSNR in full precision or the loss."""
    rows = []
    for network, cases in record.items():
        full = cases[FLOAT]['psnr']
        for case in (FLOAT, *CASES):
            if case not in cases:
                continue
            cells = [_cell(cases[case]['psnr'].get(name), full.get(name), case == FLOAT) for name in SETS]
            done = (cases[case].get('training') or {}).get('iterations', '')
            rows.append([network, case, f'{cases[case]["bytes"]:,}', *cells, done])
    heads = ['network', 'scheme, effort', 'bytes', *(f'{name}, dB' for name in SETS), 'iterations']
    return tabulate(rows, heads, tablefmt='github', disable_numparse=True)


def _cell(found: dict[str, float] | None, full: dict[str, float] | None, is_full: bool) -> str:
    if not found or not full:
        return ''
    here = [np.mean([values[name] for name in full]) for values in (found, full)]
    return f'{here[0]:.3f}' if is_full else f'{here[0] - here[1]:+.3f}'


@click.command()
@click.argument('networks', nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option('--benchmark', type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option('--data', type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option('--work', type=click.Path(path_type=Path))
@click.option('--sets', default=','.join(SETS), show_default=True)
@click.option('--cases', default=','.join(CASES), show_default=True)
@click.option('--force', is_flag=True)
def main(
    networks: tuple[Path, ...],
    benchmark: Path | None,
    data: Path | None,
    work: Path | None,
    sets: str,
    cases: str,
    force: bool,
) -> None:
    """Measure NETWORKS, or without any only write the table of the record."""
    record: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    if networks and not (benchmark and data and work):
        raise click.UsageError('Give --benchmark, --data and --work.')
    for network in networks:
        assert benchmark is not None and data is not None and work is not None
        for case in (FLOAT, *cases.split(',')):
            file, about = (network, {}) if case == FLOAT else compressed(network, case, data, work)
            row = record.setdefault(network.stem, {}).setdefault(case, {'psnr': {}})
            if force and case != FLOAT:
                row['psnr'] = {}
            row.update(about, bytes=file.stat().st_size)
            for name in sets.split(','):
                if add_set(row['psnr'], benchmark / name, file, f'{network.stem}, {case}'):
                    write_text(RECORD, json_text(record, indent=1))
    write_text(PAGE, fill(PAGE.read_text(encoding='utf-8'), {'losses': table(record)}))


if __name__ == '__main__':
    main()
