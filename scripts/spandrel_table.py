"""Compress every architecture of spandrel: write docs/results/spandrel.json and the table of docs/architectures.md.

    python scripts/spandrel_table.py [ARCHITECTURE ...]

With names, only their rows are renewed. The networks are small and have random weights
(tests/archs/spandrel_networks.py). Each is quantized to w8a8, packed and loaded again. Multiplications are those of
linear layers, convolutions and matrix products for a small image; those of element-wise products and Fourier transforms
do not count.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from markers import fill
from tabulate import tabulate
from torch import nn

from compsrt_basicsr.archs.spandrel_arch import SpandrelNetwork, build_spandrel
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing.packed import save_packed
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.prepare import make_attention_plain_, make_weights_plain_
from compsrt_basicsr.quant.products import QuantProduct
from compsrt_basicsr.quant.structure import trace
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text
from compsrt_basicsr.utils.untrusted_json import parse_json

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tests' / 'archs'))
from spandrel_networks import NETWORKS, REFUSED, built, compressed, images  # noqa: E402

RECORD, PAGE = ROOT / 'docs' / 'results' / 'spandrel.json', ROOT / 'docs' / 'architectures.md'
PACKAGES = ('spandrel', 'spandrel_extra_arches')
HEADERS = ('architecture', 'works', 'in 8 bits', 'what stays float')


def shares(network: SpandrelNetwork, student: nn.Module) -> tuple[float, dict[str, float]]:
    """Returns the share of multiplications in low bits, and of those in float by reason; changes `network`."""
    make_weights_plain_(network)
    make_attention_plain_(network)
    tracing = trace(network, network.channels, network.sides)
    products = {name for name, module in student.named_modules() if isinstance(module, QuantProduct)}
    low = quantized_layers(student).keys() | products
    total = sum(tracing.multiplications.values())
    modules = dict(network.named_modules())
    reasons: Counter[str] = Counter()
    for name, number in tracing.multiplications.items():
        if name not in low:
            reasons[_reason(modules, name)] += number
    done = sum(number for name, number in tracing.multiplications.items() if name in low)
    return done / total, {reason: number / total for reason, number in reasons.most_common()}


def _reason(modules: dict[str, nn.Module], name: str) -> str:
    module = modules.get(name)
    if module is None:
        if name.endswith('.functional'):
            owner = type(modules[name.removesuffix('.functional')]).__name__
            return f'weights that the code of {owner} uses itself'
        return f'products of {type(modules[name.partition(".quant_products.")[0]]).__name__}: their number varies'
    if type(module) in (nn.Linear, nn.Conv2d, nn.ConvTranspose2d):
        return 'layers that run for some images only'
    return f'{type(module).__name__} layers'


def row(key: str) -> dict[str, Any]:
    """Compresses one network and compares it with its packed file."""
    network = built(key)
    x = images(network)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        student = compressed(network, Path(folder))
        packed = Path(folder) / 'packed.safetensors'
        save_packed(student, packed, rest='fp32')
        same = torch.equal(load_network(packed).network(x), student(x))
    share, floats = shares(network, student)
    return {'architecture': key, 'works': same, 'share': share, 'float': floats, 'refused': None}


def refusal(arch: str) -> dict[str, Any]:
    """Returns why a network is refused."""
    try:
        build_spandrel(arch, REFUSED[arch][0])
    except CompSRTError as error:
        return {'architecture': arch, 'works': False, 'share': 0.0, 'float': {}, 'refused': str(error)}
    raise SystemExit(f'{arch} is not refused.')


def table(record: dict[str, Any]) -> str:
    """Returns the table of the page."""
    rows = []
    for entry in record['rows']:
        floats = '; '.join(f'{reason} ({share:.1%})' for reason, share in entry['float'].items() if share >= 0.0005)
        share = f'{entry["share"]:.1%}' if entry['works'] else ''
        rows.append((entry['architecture'], 'yes' if entry['works'] else 'no', share, entry['refused'] or floats))
    return tabulate(rows, HEADERS, tablefmt='github', colalign=('left', 'left', 'right', 'left'))


def main(chosen: list[str]) -> None:
    """Measures all architectures, or those chosen, and writes the record and the page."""
    torch.set_num_threads(1)
    known = {entry['architecture']: entry for entry in parse_json(RECORD.read_text())['rows']} if chosen else {}
    for key in chosen or (*NETWORKS, *REFUSED):
        known[key] = row(key) if key in NETWORKS else refusal(key)
        print(f'{key}: {known[key]["works"]}, {known[key]["share"]:.1%}, {known[key]["float"]}', flush=True)
    rows = [known[key] for key in (*NETWORKS, *REFUSED)]
    record = {'packages': {name: version(name) for name in PACKAGES}, 'quant': 'w8a8', 'rows': rows}
    write_text(RECORD, json_text(record))
    write_text(PAGE, fill(PAGE.read_text(), {'spandrel table': table(record)}))


if __name__ == '__main__':
    main(sys.argv[1:])
