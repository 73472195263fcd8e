"""Time of SwinIR-light x2 in fp32, bf16 autocast, fake quantization and integer execution, measured alternately.

    python scripts/benchmark_execution.py [--rounds 7] [--json docs/results/execution.json]

One image of each size, whole network, one thread unless --threads says otherwise. The variants alternate, so that a
change of the machine's speed affects all of them; the ratio is the median over the rounds. `--compile` adds
torch.compile's C++ backend for fp32 and fake, which takes minutes to compile. The profile gives the time by kind of
layer. `python scripts/execution_tables.py` writes the record into docs/integer.md.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from execution_tables import timing_table
from torch import Tensor, nn

import compsrt_basicsr
from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT, CompSRTSwinIR
from compsrt_basicsr.basicsr_compat.swinir import SwinIR
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.integer.cpp_kernels import kernel_is_right
from compsrt_basicsr.integer.execution import set_execution_
from compsrt_basicsr.kernels import build, loaded
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.study.bench.hardware import hardware
from compsrt_basicsr.study.bench.profile import profile_kernels, profile_layers
from compsrt_basicsr.study.bench.report import profile_table
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

Network = Callable[[Tensor], Tensor]


def full_precision() -> nn.Module:
    """The packaged teacher."""
    network = SwinIR(**SWINIR_LIGHT, upscale=2, drop_path_rate=0.0)
    network.load_state_dict(read_state('zoo://swinir_light_x2_house'), strict=False)
    return network.eval().requires_grad_(False)


def quantized(bits: int = 4) -> nn.Module:
    """The packaged teacher, quantized and calibrated on noise: time does not depend on the bounds."""
    network = CompSRTSwinIR(**SWINIR_LIGHT, quant={'weight_bits': bits, 'act_bits': bits})
    network.load_state_dict(read_state('zoo://swinir_light_x2_house'))
    calibrate(network, torch.rand(1, 3, 64, 64), CalibrationConfig(candidates=20), progress=False)
    return network.eval().requires_grad_(False)


def forget_kernels() -> None:
    """Clears the caches, so that the next executor looks for the kernels again."""
    for cached in (build.compiled, loaded.kernels, kernel_is_right):
        cached.cache_clear()


def integer(network: nn.Module, kernels: bool) -> nn.Module:
    """Returns a prepared copy on integer codes, computed by the kernels or by torch."""
    network = copy.deepcopy(network)
    with mock.patch.dict(os.environ, {build.SWITCH: str(int(kernels))}):
        forget_kernels()
        report = set_execution_(network, 'integer')
        network(torch.rand(1, 3, 16, 16))
    forget_kernels()
    if kernels and set(report.layers.values()) != {'kernel'}:
        raise SystemExit(f'The kernels are not used: {report}.')
    return network


def autocast(network: nn.Module) -> Network:
    """Returns a network under bfloat16 autocast."""

    def run(x: Tensor) -> Tensor:
        with torch.autocast('cpu', dtype=torch.bfloat16):
            return network(x)

    return run


def variants(with_compiled: bool) -> dict[str, Network]:
    """Returns all timed variants by name, the reference first."""
    full, fake = full_precision(), quantized()
    found: dict[str, Network] = {'fp32': full, 'bf16 autocast': autocast(full), 'fake': fake}
    if with_compiled:
        found['fp32, compiled'], found['fake, compiled'] = (torch.compile(copy.deepcopy(n)) for n in (full, fake))
    found['integer, torch'], found['integer, kernels'] = integer(fake, False), integer(fake, True)
    return found


def time_all(networks: dict[str, Network], size: int, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each network on one image, one entry per round, after a warm-up."""
    image = torch.rand(1, 3, size, size)
    times: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(rounds + 1):
        for name, network in networks.items():
            start = time.perf_counter()
            network(image)
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--sizes', type=int, nargs='+', default=[128, 256], help='LR sides in pixels')
    parser.add_argument('--compile', action='store_true', help='time torch.compile too')
    parser.add_argument('--json', type=Path, help='write the record to this file')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with torch.no_grad():
        networks = variants(args.compile)
        seconds = {str(size): time_all(networks, size, args.rounds) for size in args.sizes}
        image = torch.rand(1, 3, args.sizes[0], args.sizes[0])
        profile = {name: profile_layers(networks[name], image) for name in ('fp32', 'fake')}
        profile['integer, kernels'] = profile_kernels(networks['integer, kernels'], image)
    record = {
        'command': f'python scripts/benchmark_execution.py --rounds {args.rounds}',
        'threads': args.threads,
        **hardware(),
        'version': compsrt_basicsr.__version__,
        'seconds': seconds,
        'profile': profile,
    }
    print(timing_table(record), profile_table(profile), sep='\n\n')
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.json, json_text(record, indent=2))


if __name__ == '__main__':
    main()
