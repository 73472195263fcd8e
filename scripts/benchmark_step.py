"""Time and memory of one training step, quantized against full precision, side by side in one run.

    python scripts/benchmark_step.py [--threads 2] [--rounds 9] [--json docs/results/step.json]

The full-precision step: teacher forward, student forward, backward through all weights, Adam. That of `compsrt`: the
same with its quantizers. Those of the two code ranges are the published one: the quantizers train, the weights are
frozen, and there is a feature loss. The steps take turns, so that a machine whose speed drifts slows both; the figure
is the median of the ratios, round by round. Peak memory is that of a process of its own for each. Calibration is timed
against the same forward pass without it.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tabulate import tabulate

import compsrt_basicsr
from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT, CompSRTSwinIR
from compsrt_basicsr.basicsr_compat.swinir import SwinIR
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.config.quantization import CalibrationConfig
from compsrt_basicsr.losses.distillation_loss import FeatureDistillationLoss
from compsrt_basicsr.models.features import FeatureTap
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.quantizer import quantizers

VARIANTS = ('full precision', 'compsrt', 'strict', 'paper')
QUANT = {
    'compsrt': {'method': 'compsrt'},
    'strict': {'transform': 'auto'},
    'paper': {'code_range': 'paper', 'transform': 'padded'},
}
Step = Callable[[], None]


def build(variant: str, pictures: torch.Tensor) -> torch.nn.Module:
    """SwinIR-light x2 with the house weights: in full precision, or quantized to 4 bits and calibrated."""
    weights = read_state('zoo://swinir_light_x2_house')
    if variant == 'full precision':
        network = SwinIR(**SWINIR_LIGHT, upscale=2, drop_path_rate=0.0)
        network.load_state_dict(weights, strict=False)
        return network
    network = CompSRTSwinIR(**SWINIR_LIGHT, quant=QUANT[variant])
    network.load_state_dict(weights)
    calibrate(network, pictures, CalibrationConfig(), progress=False)
    if variant == 'compsrt':
        return network
    network.requires_grad_(False)
    for quantizer in quantizers(network).values():
        for parameter in quantizer.parameters():
            parameter.requires_grad_(True)
    return network


def training_step(variant: str, pictures: torch.Tensor) -> Step:
    """One step of distillation as a function without arguments."""
    teacher = build('full precision', pictures).eval().requires_grad_(False)
    student = build(variant, pictures)
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-5, fused=True)
    feature_loss = FeatureDistillationLoss() if variant in ('strict', 'paper') else None
    taps = [FeatureTap(n, feature_loss.modules_pattern) for n in (student, teacher)] if feature_loss else []

    def step() -> None:
        with torch.no_grad():
            target = teacher(pictures)
        loss = torch.mean(torch.abs(student(pictures) - target))
        if feature_loss is not None:
            loss = loss + feature_loss(*(tap.take() for tap in taps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds(step: Step) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def time_steps(pictures: torch.Tensor, rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant's step, one entry a round, after a warm-up; the variants take turns."""
    steps = {variant: training_step(variant, pictures) for variant in VARIANTS}
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant, step in steps.items():
            times[variant].append(seconds(step))
    return times


def time_calibration(pictures: torch.Tensor, rounds: int) -> dict[str, list[float]]:
    """Seconds of calibration and of the bare forward pass, by turns."""
    network = build('strict', pictures).eval()

    def forward() -> None:
        for quantizer in quantizers(network).values():
            quantizer.observer = lambda quantizer, x: None
        with torch.no_grad():
            network(pictures)

    def whole() -> None:
        calibrate(network, pictures, CalibrationConfig(), progress=False)

    times: dict[str, list[float]] = {'forward': [], 'calibration': []}
    for _ in range(rounds):
        times['forward'].append(seconds(forward))
        times['calibration'].append(seconds(whole))
    return times


def peak_memory(variant: str, args: argparse.Namespace) -> int:
    """Peak resident bytes of a process that does three steps."""
    command = [sys.executable, __file__, '--threads', str(args.threads), '--memory-of', variant]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--patch', type=int, default=32, help='LR side in pixels')
    parser.add_argument('--json', type=Path, help='write the figures there')
    parser.add_argument('--memory-of', choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    pictures = torch.rand(args.batch, 3, args.patch, args.patch)
    if args.memory_of:
        step = training_step(args.memory_of, pictures)
        for _ in range(3):
            step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return

    # Memory first: a child's peak starts at what its parent holds when it is made.
    memory = {variant: peak_memory(variant, args) for variant in VARIANTS}
    times = time_steps(pictures, args.rounds)
    calibration = time_calibration(pictures, 3)
    base = VARIANTS[0]
    ratios = {v: [a / b for a, b in zip(times[v], times[base])] for v in VARIANTS}
    rows = [
        [
            variant,
            statistics.median(times[variant]),
            statistics.median(ratios[variant]),
            f'{min(ratios[variant]):.2f} to {max(ratios[variant]):.2f}',
            memory[variant] / 1e6,
            memory[variant] / memory[base],
        ]
        for variant in VARIANTS
    ]
    headers = ['step', 'median s', 'ratio (median)', 'ratio (range)', 'peak MB', 'memory ratio']
    print(tabulate(rows, headers, tablefmt='github', floatfmt=('', '.2f', '.2f', '', '.0f', '.2f')))
    beyond = min(calibration['calibration']) - min(calibration['forward'])
    print(f'Calibration of 384 quantizers: {beyond:.2f} s beyond the forward pass (best of 3).')
    if args.json:
        record = {
            'command': f'python scripts/benchmark_step.py --threads {args.threads} --rounds {args.rounds}',
            'batch': args.batch,
            'lr_patch': args.patch,
            'threads': args.threads,
            'processor': platform.processor() or platform.machine(),
            'torch': torch.__version__,
            'version': compsrt_basicsr.__version__,
            'seconds': times,
            'calibration_seconds': calibration,
            'peak_bytes': memory,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(record, indent=2) + '\n')


if __name__ == '__main__':
    main()
