"""A short distillation by `basicsr train`, which runs the recipe as it stands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.timing import wait_for
from compsrt_basicsr.utils import child_process, interruption
from compsrt_basicsr.utils.progress import Bar, Progress

LOG = 'training.log'
_ITERATION = re.compile(rb'\biter:\s*([\d,]+)')
_WARM_UPS, _TIMED = 1, 3
_BESIDE = 1.6  # time of an iteration with data, optimizer and log over that of its passes
_START = 20.0  # seconds until the first iteration


def iterations_within(seconds: float, student: nn.Module, teacher: nn.Module, batch: Tensor) -> int:
    """Returns how many iterations fit into a time, from the measured time of a few.

    Args:
        seconds: for the whole training.
        student: the quantized network, calibrated; stays as it is.
        teacher: the full-precision network.
        batch: as the training has it.
    """
    student = deepcopy(student)
    for parameter in student.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    times = []
    for _ in range(_WARM_UPS + _TIMED):
        start = time.perf_counter()
        with torch.no_grad():
            target = teacher(batch)
        torch.nn.functional.l1_loss(student(batch), target).backward()
        wait_for(batch.device)
        times.append(time.perf_counter() - start)
    each = _BESIDE * median(times[_WARM_UPS:])
    return max(int((seconds - _START) / each), 1)


def distil(
    folder: Path,
    name: str,
    options: Path,
    iterations: int,
    seconds: float | None,
    progress: Progress,
    device: torch.device,
) -> Path:
    """Runs the training, or goes on with it; returns the last network that it saved.

    Args:
        folder: OUT, the working directory of the run.
        name: of the run.
        options: the option file.
        iterations: of the training.
        seconds: after which it is ended; what it has saved is used then. None: never.
        progress: display of the work.
        device: where it runs.

    Raises:
        CompSRTError: if the training fails, or has saved nothing in this time.
    """
    models = folder / 'experiments' / name / 'models'
    latest = models / 'net_g_latest.pth'
    if latest.exists():
        return latest
    command = [sys.executable, '-m', 'compsrt_basicsr', 'train', '-opt', options.name, '--auto_resume']
    end = None if seconds is None else time.monotonic() + seconds
    log = folder / LOG
    with log.open('wb') as stream, progress.start('Training', iterations, 'iteration') as bar:
        done = 0

        def watch() -> bool:
            nonlocal done
            done = _advance(bar, log, done)
            return end is None or time.monotonic() < end

        env = {**os.environ, 'CUDA_VISIBLE_DEVICES': _visible(device)}
        status = child_process.run(command, watch=watch, cwd=folder, env=env, stdout=stream, stderr=subprocess.STDOUT)
    late = end is not None and time.monotonic() >= end
    if status and not late:
        for number in (signal.SIGINT, signal.SIGTERM):
            if status in (-number, 128 + number):
                raise interruption.Interruption(number)
        raise CompSRTError(f'The training stopped: {_last_line(log)} (all of its output is in `{log}`).')
    saved = sorted(models.glob('net_g_[0-9]*.pth'), key=lambda file: int(file.stem.rpartition('_')[2]))
    if latest.exists() or saved:
        return latest if latest.exists() else saved[-1]
    raise CompSRTError(f'The training has saved nothing in its time; `{log}` has its output.')


def _visible(device: torch.device) -> str:
    """Returns the GPU that a process on a device may use, as in `CUDA_VISIBLE_DEVICES`."""
    if device.type != 'cuda':
        return ''
    index = device.index or 0
    given = os.environ.get('CUDA_VISIBLE_DEVICES')
    return given.split(',')[index].strip() if given else str(index)


def _advance(bar: Bar, log: Path, done: int) -> int:
    found = _ITERATION.findall(log.read_bytes())
    now = int(found[-1].replace(b',', b'')) if found else done
    if now > done:
        bar.update(now - done)
    return max(now, done)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
    return lines[-1].removeprefix('Error: ') if lines else 'it printed nothing'
