"""Time of engine files of quantized networks against those in full precision, one thread, measured alternately.

    python scripts/benchmark_engines.py NETWORK... [--scheme w8a8,w4a4] [--rounds 7] [--side 96] [--json FILE]
    python scripts/benchmark_engines.py --show docs/results/engines.json

NETWORK is a file or name of the zoo in full precision, or `compact`: 64 features, 16 convolutions, random weights. Each
is quantized as `compsrt compress --scheme SCHEME --target TARGET` does, without refitting, and exported by
`export_generic`, which compares each file with torch. Seconds are those of the processor that the process takes, the
least of the rounds: other processes only add to them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from compsrt_basicsr.archs.spandrel_arch import build_spandrel
from compsrt_basicsr.checkpoints.load import LoadedNetwork, load_network
from compsrt_basicsr.compression.images import calibration_patches, choose_images
from compsrt_basicsr.compression.inventory import make_student, traced
from compsrt_basicsr.compression.scheme import PATCH, parse_scheme
from compsrt_basicsr.compression.targets import ENGINES
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.inference.timing import alternate_calls
from compsrt_basicsr.onnx.generic import FLOAT, SUFFIXES, Target, export_generic, open_engine
from compsrt_basicsr.onnx.model import INPUT
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.study.bench.hardware import hardware
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

COMPACT = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 64, 'num_conv': 16, 'upscale': 2, 'act_type': 'prelu'}


def full_precision(name: str) -> LoadedNetwork:
    """Loads a network, or builds the Compact one."""
    if name != 'compact':
        return load_network(name)
    torch.manual_seed(0)
    network = build_spandrel('Compact', COMPACT).eval().requires_grad_(False)
    record = {'arch': 'spandrel', 'args': {'arch': 'Compact', 'args': COMPACT}, 'quant': None}
    return LoadedNetwork(network, 2, 1, 3, 'full precision', name, record)


def quantized(loaded: LoadedNetwork, target: Target, scheme: str) -> LoadedNetwork:
    """Quantizes a network as `compsrt compress` does, and calibrates it on photographs."""
    student = make_student(loaded, parse_scheme(scheme), traced(loaded), (), (target,))
    side = PATCH + -PATCH % loaded.multiple
    patches = calibration_patches(choose_images(None, loaded.scale), 4, side, loaded.channels)
    calibrate(student.network, patches, CalibrationConfig(candidates=20), progress=False)
    return student


def measure(
    name: str, target: Target, schemes: list[str], rounds: int, side: int, folder: Path
) -> list[dict[str, Any]]:
    """Measures the files of one network for one engine."""
    loaded = full_precision(name)
    networks = {FLOAT: loaded, **{scheme: quantized(loaded, target, scheme) for scheme in schemes}}
    made = {}
    for scheme, network in networks.items():
        made[scheme] = export_generic(network, folder / f'{scheme}{SUFFIXES[target]}', target)
        print(name, scheme, made[scheme], flush=True)
    image = np.random.default_rng(0).random((1, loaded.channels, side, side), np.float32)
    sessions = {scheme: open_engine(file.file, target) for scheme, file in made.items()}
    calls = {scheme: partial(session.run, None, {INPUT: image}) for scheme, session in sessions.items()}
    times = alternate_calls(calls, rounds, time.process_time)
    return [
        {
            'network': Path(name).stem,
            'engine': ENGINES[target],
            'scheme': scheme,
            'kind': made[scheme].kind,
            'int8_layers': made[scheme].int8_layers,
            'layers': made[scheme].layers,
            'bytes': [made[FLOAT].size, made[scheme].size],
            'seconds': [times[FLOAT], times[scheme]],
        }
        for scheme in schemes
    ]


def table(record: dict[str, Any]) -> str:
    """Returns the record as a Markdown table."""
    rows = []
    for row in record['rows']:
        before, after = row['seconds']
        rows.append(
            [
                row['network'],
                row['engine'],
                row['scheme'],
                f'{row["int8_layers"]} of {row["layers"]}',
                *(f'{size:,}' for size in row['bytes']),
                *(f'{min(seconds):.3f}' for seconds in (before, after)),
                f'{min(before) / min(after):.2f}',
            ]
        )
    heads = ['network', 'engine', 'scheme', 'layers in 8 bits', 'bytes before', 'bytes after', 's before', 's after',
             'times as fast']  # fmt: skip
    align = ['left'] * 3 + ['right'] * (len(heads) - 3)
    return tabulate(rows, heads, tablefmt='github', disable_numparse=True, colalign=align)


def main() -> None:
    """Measures the networks of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('networks', nargs='*')
    parser.add_argument('--scheme', default='w8a8,w4a4')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--side', type=int, default=96, help='pixels of the input')
    parser.add_argument('--json', type=Path, help='write the record to this file; what it has of other networks stays')
    parser.add_argument('--show', type=Path, help='print the table of a record and measure nothing')
    args = parser.parse_args()
    if args.show:
        print(table(json.loads(args.show.read_text())))
        return
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    if args.json and args.json.exists():
        names = {Path(name).stem for name in args.networks}
        rows = [row for row in json.loads(args.json.read_text())['rows'] if row['network'] not in names]
    flags = Path('/proc/cpuinfo').read_text() if Path('/proc/cpuinfo').exists() else ''
    machine = {**hardware(), 'VNNI': 'avx_vnni' in flags or 'avx512_vnni' in flags}
    versions = {name: metadata.version(name) for name in ('onnxruntime', 'openvino', 'torch')}
    for name in args.networks:
        for target in ENGINES:
            with tempfile.TemporaryDirectory() as folder:
                rows += measure(name, target, args.scheme.split(','), args.rounds, args.side, Path(folder))
            if args.json:
                record = {'machine': machine, 'versions': versions, 'side': args.side, 'rows': rows}
                write_text(args.json, json_text(record, indent=1))
    print(table({'rows': rows}))


if __name__ == '__main__':
    main()
