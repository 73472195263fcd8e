"""Time of engine files in 8 bits against those in full precision, one thread, measured alternately.

    python scripts/benchmark_engines.py NETWORK... [--rounds 7] [--side 128] [--bits 7] [--json FILE]

NETWORK is a file or name of the zoo in full precision, or `compact`: 64 features, 16 convolutions, random weights. Each
is quantized for engines (weights of 7 bits, activations of 8 bits) and calibrated on noise: time does not depend on the
grids. The files are those of `export_generic`, which compares each with torch.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from compsrt_basicsr.archs.compsrt_net_arch import quantize_network_
from compsrt_basicsr.archs.spandrel_arch import build_spandrel
from compsrt_basicsr.checkpoints.load import QUANTIZED, LoadedNetwork, load_network
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx.check import open_session
from compsrt_basicsr.onnx.generic import Target, export_generic
from compsrt_basicsr.onnx.model import INPUT
from compsrt_basicsr.onnx.openvino import OpenVINOSession
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.record import decode_record
from compsrt_basicsr.study.bench.hardware import hardware
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

COMPACT = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 64, 'num_conv': 16, 'upscale': 2, 'act_type': 'prelu'}
TARGETS: dict[Target, str] = {'onnx': 'ONNX Runtime', 'openvino': 'OpenVINO'}


def full_precision(name: str) -> LoadedNetwork:
    """Loads a network, or builds the Compact one."""
    if name != 'compact':
        return load_network(name)
    torch.manual_seed(0)
    network = build_spandrel('Compact', COMPACT).eval().requires_grad_(False)
    record = {'arch': 'spandrel', 'args': {'arch': 'Compact', 'args': COMPACT}, 'quant': None}
    return LoadedNetwork(network, 2, 1, 3, 'full precision', name, record)


def for_engine(loaded: LoadedNetwork, target: Target, bits: int) -> LoadedNetwork:
    """Quantizes a network for an engine."""
    config = QuantConfig(
        weight_bits=bits,
        act_bits=8,
        transform='none',
        symmetric='weights',
        zero_point='integer',
        granularity='channel',
        quantize_convs=True,
        quantize_head_tail=True,
        quantize_outputs=target == 'onnx',
        fold_norms=True,
    )
    network = copy.deepcopy(loaded.network)
    quantize_network_(network, config, {'type': loaded.record['arch'], **loaded.record['args']})
    side = 32 + -32 % loaded.multiple
    calibrate(network, torch.rand(1, loaded.channels, side, side), CalibrationConfig(candidates=20), progress=False)
    record = decode_record(network.quant_record.json)
    network = network.eval().requires_grad_(False)
    return LoadedNetwork(network, loaded.scale, loaded.multiple, loaded.channels, QUANTIZED, loaded.source, record)


def sessions(loaded: LoadedNetwork, folder: Path, bits: int) -> dict[tuple[str, str], tuple[Any, str]]:
    """Exports a network for each engine in full precision and in 8 bits; leaves out what cannot be exported."""
    found = {}
    for target, engine in TARGETS.items():
        for kind in ('float', 'int8'):
            network = loaded if kind == 'float' else for_engine(loaded, target, bits)
            file = folder / f'{kind}.{"onnx" if target == "onnx" else "xml"}'
            try:
                made = export_generic(network, file, target)
            except CompSRTError as error:
                print(f'{engine}, {kind}: {error}', flush=True)
                continue
            print(made, flush=True)
            found[engine, kind] = (open_session(file) if target == 'onnx' else OpenVINOSession(file)), str(made)
    return found


def seconds(functions: dict[Any, Callable[[], Any]], rounds: int) -> dict[Any, list[float]]:
    """Measures functions alternately, after one call of each."""
    times: dict[Any, list[float]] = {key: [] for key in functions}
    for number in range(rounds + 1):
        for key, function in functions.items():
            start = time.perf_counter()
            function()
            if number:
                times[key].append(time.perf_counter() - start)
    return times


def measure(name: str, rounds: int, side: int, bits: int) -> list[dict[str, Any]]:
    """Measures the files of one network."""
    loaded = full_precision(name)
    image = np.random.default_rng(0).random((1, loaded.channels, side, side), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        made = sessions(loaded, Path(folder), bits)
        calls = {key: (lambda s=session: s.run(None, {INPUT: image})) for key, (session, _) in made.items()}
        times = seconds(calls, rounds)
    rows = []
    for engine in TARGETS.values():
        if (engine, 'float') in times and (engine, 'int8') in times:
            before, after = times[engine, 'float'], times[engine, 'int8']
            ratio = statistics.median(a / b for a, b in zip(before, after))
            rows.append(
                {
                    'network': Path(name).stem,
                    'engine': engine,
                    'float s': statistics.median(before),
                    'int8 s': statistics.median(after),
                    'least float s': min(before),
                    'least int8 s': min(after),
                    'speedup': ratio,
                    'file': made[engine, 'int8'][1],
                }
            )
    return rows


def main() -> None:
    """Measures the networks of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('networks', nargs='+')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--side', type=int, default=128, help='pixels of the input')
    parser.add_argument('--bits', type=int, default=7, help='of the weights')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name in args.networks for row in measure(name, args.rounds, args.side, args.bits)]
    flags = Path('/proc/cpuinfo').read_text() if Path('/proc/cpuinfo').exists() else ''
    machine = {**hardware(), 'VNNI': 'avx_vnni' in flags or 'avx512_vnni' in flags}
    print(machine)
    print(tabulate(rows, headers='keys', tablefmt='github', floatfmt='.3f'))
    if args.json:
        write_text(args.json, json_text({'machine': machine, 'rows': rows}))


if __name__ == '__main__':
    main()
