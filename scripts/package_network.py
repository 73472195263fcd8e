"""Put a network that a sweep trained into the package: pack it, test the packed file, renew index and card.

    python scripts/package_network.py sweeps/pruning_x2/runs/RUN.json swinir_light_x2_house_w4a4_p40 --notes 'Small.'

The notes of an entry that is there already stay, unless new ones are given. Renew `compsrt zoo list` in docs/zoo.md.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from compsrt_basicsr.checkpoints.describe import card_rows
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.hub.card import render_card
from compsrt_basicsr.hub.catalog import PACKAGE
from compsrt_basicsr.hub.checksum import sha256_of
from compsrt_basicsr.hub.entry import Entry
from compsrt_basicsr.hub.index import INDEX, parse_index
from compsrt_basicsr.hub.publish import read_quality
from compsrt_basicsr.packing.packed import save_packed
from compsrt_basicsr.study.sweep.option_files import WEIGHTS
from compsrt_basicsr.utils.atomic_write import write_text

SHOWN = {'psnr': 2, 'ssim': 4, 'levels_max': 0, 'levels_over': 0}  # digits
FIRST_PUBLIC = '- name: swinir_light_x2\n'  # new entries stand before it


def measure(work: Path, packed: Path) -> dict[str, dict[str, float]]:
    """Tests a packed file as the sweep tested its checkpoint; returns the metrics of each test set."""
    options = yaml.safe_load((work / 'test.yml').read_text(encoding='utf-8'))
    options.update(name='packaged')
    options['path']['pretrain_network_g'] = str(packed.resolve())
    (work / 'packaged.yml').write_text(yaml.safe_dump(options, sort_keys=False), encoding='utf-8')
    subprocess.run([Path(sys.executable).parent / 'basicsr', 'test', '-opt', 'packaged.yml'], cwd=work, check=True)
    quality = read_quality(work / 'results/packaged/metrics.json')
    return {
        name: {metric: round(values[metric], digits) for metric, digits in SHOWN.items()}
        for name, values in quality.items()
    }


def origin_of(record: dict[str, Any]) -> str:
    """Returns how a network was made, in a sentence that names the command."""
    protocol, quant = record['protocol'], record['quant']
    pruned = f', {quant["prune_ratio"]:.0%} pruned,' if quant['prune_ratio'] else ''
    only = ','.join(f'{axis}={value}' for axis, value in record['axes'].items())
    return (
        f'{protocol["teacher"]} at {quant["weight_bits"]} bits{pruned} in strict range, calibrated and distilled for '
        f'{protocol["iterations"]} iterations (batch {protocol["batch"]}, LR {protocol["lr_patch"]}x'
        f'{protocol["lr_patch"]}, seed {record["seed"]}, on {", ".join(record["settings"]["datasets"]["train"])}) '
        f'by `compsrt sweep options/sweeps/{record["sweep"]}.yml --only {only}`, and packed'
    )


def entry_text(entry: Entry) -> str:
    """Returns an entry as a person would write it: short sections in one line."""
    lines = []
    for key, value in entry.to_mapping().items():
        if key == 'quality':
            lines += ['quality:', *(f'  {name}: {_in_braces(values)}' for name, values in value.items())]
        else:
            lines.append(yaml.safe_dump({key: value}, allow_unicode=True, width=116).rstrip())
    return '- ' + '\n'.join(lines).replace('\n', '\n  ') + '\n'


def _in_braces(values: dict[str, float]) -> str:
    return '{' + ', '.join(f'{metric}: {value:g}' for metric, value in values.items()) + '}'


def replace_entry(index: str, entry: Entry) -> str:
    """Returns the text of an index with an entry in place of that of the same name, else before the public models."""
    own, new = re.compile(rf'(?ms)^- name: {re.escape(entry.name)}\n.*?(?=^- name: |\Z)'), entry_text(entry)
    if own.search(index):
        return own.sub(lambda _: new, index)
    return index.replace(FIRST_PUBLIC, new + FIRST_PUBLIC, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('record', type=Path, help='runs/RUN.json of a sweep whose work/RUN is still there')
    parser.add_argument('name', help='of the model, and of its file')
    parser.add_argument('--notes', help='what else a user should know')
    args = parser.parse_args()
    record = json.loads(args.record.read_text(encoding='utf-8'))
    work = args.record.parents[1] / 'work' / record['name']
    target, index = PACKAGE / f'{args.name}.safetensors', PACKAGE / INDEX
    entries = parse_index(index.read_text(encoding='utf-8'), str(index))
    save_packed(load_network(work / WEIGHTS).network, target)
    teacher = entries[record['protocol']['teacher'].removeprefix('zoo://')]
    earlier = entries.get(args.name)
    entry = Entry(
        name=args.name,
        kind='packed',
        file=target.name,
        scale=record['protocol']['scale'],
        architecture=f'CompSRT{teacher.architecture}',
        weight_bits=record['quant']['weight_bits'],
        act_bits=record['quant']['act_bits'],
        size=target.stat().st_size,
        sha256=sha256_of(target),
        licence=teacher.licence,
        origin=origin_of(record),
        quality=measure(work, target),
        protocol=f'Y channel, border {record["protocol"]["border"]}, symmetric padding, this very file',
        notes=args.notes or (earlier.notes if earlier else ''),
    )
    write_text(index, replace_entry(index.read_text(encoding='utf-8'), entry))
    write_text(target.with_suffix('.md'), render_card(entry, card_rows(load_network(target))))
    print(f'{target}: {entry.size:,} bytes, SHA-256 {entry.sha256}')


if __name__ == '__main__':
    main()
