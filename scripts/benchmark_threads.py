"""Measures how many threads there should be, and how they should wait, on two cores, alone and beside another program.

    python scripts/benchmark_threads.py

One training step (distillation of the packaged SwinIR-light, batch 4, LR 32x32) and one pass on integer codes (LR
128x128), each in a process of its own for each setting; the settings alternate. The other program is a loop on one
core. `automatic` is the number that the commands choose. Takes about a quarter of an hour on an idle machine. Writes
docs/results/threads.json and prints a table. `--quick` measures one thread and the automatic number only.
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
from compsrt_basicsr.utils.text import counted
from compsrt_basicsr.utils.threads import THREADS
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
AUTOMATIC = 0  # threads: the commands choose
QUICK = [(1, COMMANDS), (AUTOMATIC, COMMANDS)]  # one thread waits for nobody
CASES = [*QUICK, *((2, name) for name in WAITING)]
STEPS = 3
_OF_THREADS = ('OMP_', 'GOMP_', 'KMP_', 'MKL_')  # variables


def work() -> dict[str, Any]:
    """Returns the seconds of each step and of each pass in this process, and its number of threads."""
    THREADS.watch()
    import torch

    from compsrt_basicsr.checkpoints.load import load_network
    from compsrt_basicsr.integer.execution import set_execution_

    THREADS.choose()
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

    return {'step': _timed(step), 'upscale': passes, 'chosen': torch.get_num_threads()}


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


def run_case(threads: int, waiting: str) -> dict[str, Any]:
    """Runs `work` in a process with a number of threads, or `AUTOMATIC`, that wait in a certain way."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THREADS)}
    number = {} if threads == AUTOMATIC else {'OMP_NUM_THREADS': str(threads)}
    environment = {**clean, **WAITING[waiting], **number, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [sys.executable, __file__, '--work'], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(cases: list[tuple[int, str]], rounds: int) -> list[dict[str, Any]]:
    """Returns the median seconds of each case and load, and the numbers of threads that its processes had."""
    times: dict[tuple[str, int, str], dict[str, list[Any]]] = {}
    for _ in range(rounds):
        for threads, waiting in cases:
            for load in LOADS:
                with other_program(load):
                    found = run_case(threads, waiting)
                kept = times.setdefault((load, threads, waiting), {'chosen': [], **{name: [] for name in WORKS}})
                kept['chosen'].append(found['chosen'])
                for name in WORKS:
                    kept[name] += found[name]
                seconds = ', '.join(f'{name} {statistics.median(found[name]):.2f} s' for name in WORKS)
                sys.stderr.write(f'{_label(threads)} ({found["chosen"]}), {waiting}, {load}: {seconds}\n')
    return [
        {
            'load': load,
            'threads': threads,
            'waiting': waiting,
            'chosen': kept['chosen'],
            **{name: round(statistics.median(kept[name]), 4) for name in WORKS},
        }
        for (load, threads, waiting), kept in times.items()
    ]


def table(record: dict[str, Any]) -> str:
    """Returns the record as a Markdown table; in brackets the time over that of one thread, and the number chosen."""
    found = {(row['load'], row['threads'], row['waiting']): row for row in record['rows']}
    lines = []
    for threads, waiting in dict.fromkeys((threads, waiting) for _, threads, waiting in found):
        cells = []
        for name in WORKS:
            for load in LOADS:
                seconds, one = found[load, threads, waiting][name], found[load, 1, COMMANDS][name]
                chosen = sorted(set(found[load, threads, waiting]['chosen'])) if threads == AUTOMATIC else ()
                cells.append(f'{seconds:.2f} ({"; ".join([f"{seconds / one:.2f}", *(_counted(n) for n in chosen)])})')
        setting = f'GOMP_SPINCOUNT={record["settings"]["GOMP_SPINCOUNT"]}' if waiting == COMMANDS else waiting
        lines.append((_label(threads), setting, *cells))
    headers = ['threads', 'waiting', *(f'{name}, {load} (s)' for name in WORKS for load in LOADS)]
    return tabulate(lines, headers, 'github', disable_numparse=True)


def _counted(threads: int) -> str:
    return counted(threads, 'thread')


def _label(threads: int) -> str:
    return str(threads or 'automatic')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('-o', '--out', type=Path, default=ROOT / 'docs/results/threads.json')
    parser.add_argument('--rounds', type=int, default=2, help='processes of each case')
    parser.add_argument('--quick', action='store_true', help='one thread and the automatic number only')
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
    record['rows'] = measure(QUICK if arguments.quick else CASES, arguments.rounds)
    write_text(arguments.out, json_text(record, indent=2))
    print(table(record))


if __name__ == '__main__':
    main()
