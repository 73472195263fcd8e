"""Latency and peak memory of the modes, measured alternately."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.compression.inventory import traced
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.timing import alternate
from compsrt_basicsr.study.bench.memory import Case, Memory, peak_memory
from compsrt_basicsr.study.bench.modes import in_full_precision, in_mode
from compsrt_basicsr.study.bench.rivals import COMPILED, RIVALS
from compsrt_basicsr.utils.progress import SILENT, Progress


@dataclass(frozen=True)
class Measurement:
    """One case, measured.

    Attributes:
        case: what was measured.
        seconds: time of each round.
        memory: peak memory of one run.
        speed: speed relative to the first mode of the same size, threads and device: median over the rounds.
        multiplications: of the network in full precision, for this image.
    """

    case: Case
    seconds: tuple[float, ...]
    memory: Memory
    speed: float
    multiplications: int

    @property
    def median(self) -> float:
        """Median time in seconds."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Multiplications a second, at the median time."""
        return self.multiplications / self.median

    def to_json(self) -> dict[str, Any]:
        """Returns plain data."""
        kept = {'seconds': self.seconds, 'memory': asdict(self.memory), 'speed': self.speed}
        return {**asdict(self.case), **kept, 'multiplications': self.multiplications}


def measure(
    model: LoadedNetwork,
    modes: Sequence[str],
    sizes: Sequence[int],
    threads: Sequence[int],
    devices: Sequence[str],
    rounds: int,
    progress: Progress = SILENT,
) -> list[Measurement]:
    """Measures all cases. The modes alternate, so that a change of the machine's speed affects all of them.

    Args:
        model: the model.
        modes: ways to compute it; the first is the reference.
        sizes: sides of the LR image in pixels, multiples of the window.
        threads: numbers of CPU threads.
        devices: 'cpu', 'cuda' and so on.
        rounds: number of repetitions after a warm-up.
        progress: shows the progress.

    Raises:
        CompSRTError: if a size, a number of threads or a device is not possible, or a rival cannot run the network.
    """
    _check(model, modes, sizes, threads, devices)
    groups = [(size, count, device) for device in devices for count in threads for size in sizes]
    usual = torch.get_num_threads()
    per_pixel = multiplications_per_pixel(model)
    found = []
    try:
        with TemporaryDirectory() as name:
            folder = Path(name)
            for size, count, device in progress.track(groups, 'measure', 'case'):
                torch.set_num_threads(count)
                networks = {mode: in_mode(model, mode, folder) for mode in modes}
                seconds = alternate(networks, model.channels, size, device, rounds)
                reference = seconds[modes[0]]
                for mode in modes:
                    case = Case(mode, size, count, device)
                    memory = peak_memory(model.source, case, folder)
                    speed = statistics.median(b / t for b, t in zip(reference, seconds[mode]))
                    found.append(Measurement(case, tuple(seconds[mode]), memory, speed, round(per_pixel * size * size)))
    finally:
        torch.set_num_threads(usual)
    return found


def multiplications_per_pixel(model: LoadedNetwork) -> float:
    """Returns the multiplications of a model in full precision for each pixel of its input."""
    tracing = traced(in_full_precision(model))
    return sum(tracing.multiplications.values()) / tracing.pixels


def _check(
    model: LoadedNetwork, modes: Sequence[str], sizes: Sequence[int], threads: Sequence[int], devices: Sequence[str]
) -> None:
    for size in sizes:
        if size < model.multiple or size % model.multiple:
            raise CompSRTError(f'`--size` must be a multiple of the window, {model.multiple} pixels, got {size}.')
    if any(count < 1 for count in threads):
        raise CompSRTError(f'`--threads` must be at least 1, got {min(threads)}.')
    for device in devices:
        if device != 'cpu' and not torch.cuda.is_available():
            raise CompSRTError(f'`--device {device}`: PyTorch finds no CUDA device here; measure on the CPU.')
        if device != 'cpu' and (engines := [mode for mode in modes if mode in RIVALS and mode != COMPILED]):
            raise CompSRTError(f'`{engines[0]}` is measured on the CPU only, `--device {device}` has {COMPILED}.')
