"""Time and memory of one training step, quantized and in full precision, measured alternately.

    python scripts/benchmark_step.py [--threads 2] [--rounds 9] [--json docs/results/step.json]

The full-precision step: teacher forward, student forward, backward through all weights, Adam. The step of `compsrt`:
the same with its quantizers. The steps of the two code ranges follow the paper: the quantizers train, the weights are
frozen, and there is a feature loss. The steps alternate, so that a change of the machine's speed affects all of them;
the ratio is the median over the rounds. Peak memory is measured in a process for each step. Calibration is compared
with the same forward pass without it; that of `compsrt`, which refits all layers, takes 32 patches and one thread.
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

from compsrt_basicsr.utils import before_torch

before_torch.prepare()  # as in the commands

import torch
from ratio_table import ratio_table

import compsrt_basicsr
from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT, CompSRTSwinIR
from compsrt_basicsr.basicsr_compat.swinir import SwinIR
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.losses.distillation_loss import FeatureDistillationLoss
from compsrt_basicsr.models.features import FeatureTap
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

VARIANTS = ('full precision', 'compsrt', 'strict', 'paper')
QUANT = {
    'compsrt': {'method': 'compsrt'},
    'strict': {'transform': 'auto'},
    'paper': {'code_range': 'paper', 'transform': 'padded'},
}
PATCHES = 32  # of the calibration of `compsrt`, as in its option files
Step = Callable[[], None]


def build(variant: str, images: torch.Tensor) -> torch.nn.Module:
    """Returns SwinIR-light x2 with the packaged weights: in full precision, or quantized to 4 bits and calibrated."""
    weights = read_state('zoo://swinir_light_x2_house')
    if variant == 'full precision':
        network = SwinIR(**SWINIR_LIGHT, upscale=2, drop_path_rate=0.0)
        network.load_state_dict(weights, strict=False)
        return network
    network = CompSRTSwinIR(**SWINIR_LIGHT, quant=QUANT[variant])
    network.load_state_dict(weights)
    calibrate(network, images, CalibrationConfig(), progress=False)
    if variant == 'compsrt':
        return network
    network.requires_grad_(False)
    for quantizer in quantizers(network).values():
        for parameter in quantizer.parameters():
            parameter.requires_grad_(True)
    return network


def training_step(variant: str, images: torch.Tensor) -> Step:
    """Returns one step of distillation as a function without arguments."""
    teacher = build('full precision', images).eval().requires_grad_(False)
    student = build(variant, images)
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-5, fused=True)
    feature_loss = FeatureDistillationLoss() if variant in ('strict', 'paper') else None
    taps = [FeatureTap(n, feature_loss.modules_pattern) for n in (student, teacher)] if feature_loss else []

    def step() -> None:
        with torch.no_grad():
            target = teacher(images)
        loss = torch.mean(torch.abs(student(images) - target))
        if feature_loss is not None:
            loss = loss + feature_loss(*(tap.take() for tap in taps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds(step: Step) -> float:
    """Returns the wall-clock seconds of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def time_steps(images: torch.Tensor, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each variant's step, one entry per round, after a warm-up; the variants alternate."""
    steps = {variant: training_step(variant, images) for variant in VARIANTS}
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant, step in steps.items():
            times[variant].append(seconds(step))
    return times


def time_calibration(images: torch.Tensor, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of calibration, of the plain forward pass, and of `compsrt`'s, measured alternately."""
    network, refitted = (build(variant, images).eval() for variant in ('strict', 'compsrt'))
    patches = torch.rand(PATCHES, *images.shape[1:])

    def forward() -> None:
        for quantizer in quantizers(network).values():
            quantizer.observer = lambda quantizer, x: None
        with torch.no_grad():
            network(images)

    def whole() -> None:
        calibrate(network, images, CalibrationConfig(), progress=False)

    def refit() -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        calibrate(refitted, patches, CalibrationConfig(reconstruct=True), progress=False)
        torch.set_num_threads(threads)

    steps = {'forward': forward, 'calibration': whole, 'reconstruct': refit}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(seconds(step))
    return times


def peak_memory(variant: str, args: argparse.Namespace) -> int:
    """Returns the peak resident bytes of a process that runs three steps."""
    sizes = ['--threads', str(args.threads), '--batch', str(args.batch), '--patch', str(args.patch)]
    command = [sys.executable, __file__, *sizes, '--memory-of', variant]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--patch', type=int, default=32, help='LR side in pixels')
    parser.add_argument('--json', type=Path, help='write the record to this file')
    parser.add_argument('--memory-of', choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    images = torch.rand(args.batch, 3, args.patch, args.patch)
    if args.memory_of:
        step = training_step(args.memory_of, images)
        for _ in range(3):
            step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return

    # Memory first: the peak of a child process starts at the memory of its parent.
    memory = {variant: peak_memory(variant, args) for variant in VARIANTS}
    times = time_steps(images, args.rounds)
    calibration = time_calibration(images, 3)
    print(ratio_table('step', times, memory))
    beyond = min(calibration['calibration']) - min(calibration['forward'])
    print(f'Calibration of 384 quantizers: {beyond:.2f} s beyond the forward pass (best of 3).')
    print(f'Calibration of compsrt on {PATCHES} patches, one thread: {min(calibration["reconstruct"]):.2f} s.')
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
        write_text(args.json, json_text(record, indent=2))


if __name__ == '__main__':
    main()
