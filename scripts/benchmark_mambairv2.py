"""Time of MambaIRv2-light: a forward pass next to SwinIR-light's, and a training step next to that in full precision.

    python scripts/benchmark_mambairv2.py [--weights FILE] [--rounds 7] [--json docs/results/mambairv2_speed.json]

The forward passes take one image of 128x128 pixels on one thread. The step of distillation has a batch of 4 patches of
32x32 pixels on two threads; the quantized student trains all weights, in both placements of the quantizers, with the
grids of the strict option files. What is compared runs alternately, so that a change of the machine's speed affects all
of it; ratios are medians over the rounds. Peak memory is measured in a process for each step. `python
scripts/make_results.py` writes the record into docs/mambairv2.md.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compsrt_basicsr.utils import before_torch

before_torch.prepare()  # as in the commands

import torch
from ratio_table import ratio_table
from torch import nn

import compsrt_basicsr
from compsrt_basicsr.archs.compsrt_net_arch import CompSRTNet
from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT
from compsrt_basicsr.archs.mambairv2_light_arch import MambaIRv2Light
from compsrt_basicsr.archs.routing import same_noise
from compsrt_basicsr.basicsr_compat.swinir import SwinIR
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.inference.timing import alternate
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

SIDE, BATCH, PATCH = 128, 4, 32
GRIDS = {'granularity': 'channel', 'act_granularity': 'token', 'equalize': True}  # of the strict option files
PLACEMENTS: dict[str, dict[str, Any]] = {
    'linears': GRIDS | {'layers': {'*.selectiveScan.*': {'operands': 'weights'}}},
    'all': GRIDS
    | {
        'quantize_convs': True,
        'quantize_products': True,
        'quantize_scan': True,
        'attention_transform': False,
        'exclude': ['layers.?.conv', 'conv_after_body'],
    },
}
VARIANTS = ('full precision', *PLACEMENTS)


def teacher(weights: str | None) -> nn.Module:
    """Returns MambaIRv2-light x2 with given weights, or fresh ones, which take the same time."""
    torch.manual_seed(0)
    return load_network(weights).network if weights else MambaIRv2Light().eval().requires_grad_(False)


def training_step(variant: str, weights: str | None) -> Callable[[], None]:
    """Returns one step of distillation as a function without arguments."""
    images = torch.rand(BATCH, 3, PATCH, PATCH, generator=torch.Generator().manual_seed(0))
    target_network, student = teacher(weights), teacher(weights)
    if variant in PLACEMENTS:
        student = CompSRTNet({'type': 'MambaIRv2Light'}, PLACEMENTS[variant])
        student.load_state_dict(target_network.state_dict())
        calibrate(student, images[:1], CalibrationConfig(method='minmax'), progress=False)
    student.train().requires_grad_(True)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        with same_noise(0, target_network, student):
            with torch.no_grad():
                target = target_network(images)
            loss = (student(images) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def time_steps(weights: str | None, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each variant's step, one entry a round; the variants alternate."""
    steps = {variant: training_step(variant, weights) for variant in VARIANTS}
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(rounds + 1):
        for variant, step in steps.items():
            start = time.perf_counter()
            step()
            if number:
                times[variant].append(time.perf_counter() - start)
    return times


def peak_memory(variant: str, weights: str | None) -> int:
    """Returns the peak resident bytes of a process that runs two steps."""
    command = [sys.executable, __file__, '--memory-of', variant, *(['--weights', weights] if weights else [])]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--weights', help='weights of MambaIRv2-light x2')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--json', type=Path, help='write the record to this file')
    parser.add_argument('--memory-of', choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.memory_of:
        step = training_step(args.memory_of, args.weights)
        for _ in range(2):
            step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    memory = {variant: peak_memory(variant, args.weights) for variant in VARIANTS}
    steps = time_steps(args.weights, args.rounds)
    torch.set_num_threads(1)
    networks = {'SwinIR-light': SwinIR(**SWINIR_LIGHT, upscale=2).eval(), 'MambaIRv2-light': teacher(args.weights)}
    forward = alternate(networks, 3, SIDE, 'cpu', args.rounds)
    print(f'One image of {SIDE}x{SIDE} pixels, one thread:\n\n{ratio_table("network", forward)}\n')
    print(f'A training step, {BATCH} patches of {PATCH}x{PATCH} pixels, two threads:\n')
    print(ratio_table('step', steps, memory))
    if args.json:
        record = {
            'command': f'python scripts/benchmark_mambairv2.py --rounds {args.rounds}',
            'processor': platform.processor() or platform.machine(),
            'torch': torch.__version__,
            'version': compsrt_basicsr.__version__,
            'forward_seconds': forward,
            'seconds': steps,
            'peak_bytes': memory,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.json, json_text(record, indent=2))


if __name__ == '__main__':
    main()
