"""Measures how OpenMP's threads should wait, on two cores, alone and beside another program; writes JSON.

    python scripts/benchmark_threads.py

One training step (distillation of the packaged SwinIR-light, batch 4, LR 32x32) and one pass on integer codes (LR
128x128), each in a process of its own for each setting; the settings alternate. The other program is a loop on one
core. Takes about a quarter of an hour on an idle machine. Writes docs/results/threads.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tabulate import tabulate

from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.openmp import SETTINGS
from compsrt_basicsr.utils.plain_json import json_text
from compsrt_basicsr.version import __version__

ROOT = Path(__file__).resolve().parents[1]
TEACHER, STUDENT = 'swinir_light_x2_house', 'swinir_light_x2_house_w4a4_p40'
WORKS = ('step', 'upscale')
LOADS = ('alone', 'beside')
COMMANDS = 'the commands'
WAITING: dict[str, dict[str, str]] = {
    'torch': {},
    'passive': {'OMP_WAIT_POLICY': 'passive'},
    **{f'GOMP_SPINCOUNT={count}': {'GOMP_SPINCOUNT': str(count)} for count in (300, 1_000, 30_000)},
    COMMANDS: SETTINGS,
}
CASES = [(1, COMMANDS), *((2, name) for name in WAITING)]  # one thread waits for nobody
STEPS = 3


def work() -> dict[str, list[float]]:
    """Returns the seconds of each step and of each pass in this process."""
    import torch

    from compsrt_basicsr.checkpoints.load import load_network
    from compsrt_basicsr.integer.execution import set_execution_

    student, teacher = (load_network(name).network for name in (STUDENT, TEACHER))
    batch, image = torch.rand(4, 3, 32, 32), torch.rand(1, 3, 128, 128)
    set_execution_(student, 'integer')
    passes = _timed(torch.inference_mode()(lambda: student(image)))
    set_execution_(student, 'fake')
    for parameter in student.parameters():
        parameter.requires_grad_(parameter.is_floating_point())

    def step() -> None:
        with torch.no_grad():
            target = teacher(batch)
        torch.nn.functional.l1_loss(student(batch), target).backward()

    return {'step': _timed(step), 'upscale': passes}


def _timed(run: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times[1:]


@contextmanager
def other_program(load: str) -> Iterator[None]:
    """Keeps one core busy inside the context, if `load` is 'beside'."""
    process = subprocess.Popen([sys.executable, '-c', 'while True: pass']) if load == 'beside' else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def run_case(threads: int, waiting: str) -> dict[str, list[float]]:
    """Runs `work` in a process with a number of threads that wait in a certain way."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(('OMP_', 'GOMP_', 'KMP_'))}
    environment = {**clean, **WAITING[waiting], 'OMP_NUM_THREADS': str(threads), 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [sys.executable, __file__, '--work'], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(rounds: int) -> list[dict[str, Any]]:
    """Returns the median seconds of each case and load."""
    times: dict[tuple[str, int, str], dict[str, list[float]]] = {}
    for _ in range(rounds):
        for threads, waiting in CASES:
            for load in LOADS:
                with other_program(load):
                    found = run_case(threads, waiting)
                kept = times.setdefault((load, threads, waiting), {name: [] for name in WORKS})
                for name in WORKS:
                    kept[name] += found[name]
                seconds = ', '.join(f'{name} {statistics.median(found[name]):.2f} s' for name in WORKS)
                sys.stderr.write(f'{threads} threads, {waiting}, {load}: {seconds}\n')
    return [
        {
            'load': load,
            'threads': threads,
            'waiting': waiting,
            **{name: round(statistics.median(values), 4) for name, values in kept.items()},
        }
        for (load, threads, waiting), kept in times.items()
    ]


def table(record: dict[str, Any]) -> str:
    """Returns the record as a Markdown table; in brackets the time over that of one thread."""
    found = {(row['load'], row['threads'], row['waiting']): row for row in record['rows']}
    lines = []
    for threads, waiting in CASES:
        cells = []
        for name in WORKS:
            for load in LOADS:
                seconds, one = found[load, threads, waiting][name], found[load, 1, COMMANDS][name]
                cells.append(f'{seconds:.2f} ({seconds / one:.2f})')
        lines.append((threads, waiting, *cells))
    headers = ['threads', 'waiting', *(f'{name}, {load} (s)' for name in WORKS for load in LOADS)]
    return tabulate(lines, headers, 'github', disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('-o', '--out', type=Path, default=ROOT / 'docs/results/threads.json')
    parser.add_argument('--rounds', type=int, default=2, help='processes of each case')
    parser.add_argument('--work', action='store_true', help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        print(json.dumps(work()))
        return
    from compsrt_basicsr.study.bench.hardware import hardware

    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # a machine of two cores, for children too
    record: dict[str, Any] = {
        'command': f'python scripts/benchmark_threads.py --rounds {arguments.rounds}',
        'protocol': f'medians of {arguments.rounds} processes with {STEPS} repeats each, on two cores',
        'settings': SETTINGS,
        'version': __version__,
        **hardware(),
    }
    record['rows'] = measure(arguments.rounds)
    write_text(arguments.out, json_text(record, indent=2))
    print(table(record))


if __name__ == '__main__':
    main()
