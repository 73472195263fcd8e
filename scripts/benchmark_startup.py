"""Measures the processor time that commands take until they answer, and writes docs/results/startup.json.

    python scripts/benchmark_startup.py

Each command runs several times as a process of its own on one thread. The Markdown table on stdout has the minimum and
the median of user and system time. `import torch` is listed for comparison: no command that needs torch is faster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tabulate import tabulate

from compsrt_basicsr.study.bench.hardware import hardware
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text
from compsrt_basicsr.version import __version__

ROOT = Path(__file__).resolve().parents[1]
NETWORK = ROOT / 'compsrt_basicsr/hub/swinir_light_x2_house_w4a4_p40.safetensors'
SIDE = 48  # of the small image, in pixels
TORCH = "python -c 'import torch'"


def commands(folder: Path) -> dict[str, list[str]]:
    """Returns the arguments of Python for each command, by the text that a user types."""
    image, out = folder / 'small.png', folder / 'out'
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(image)
    compsrt, basicsr = ['-m', 'compsrt_basicsr.cli.compsrt'], ['-m', 'compsrt_basicsr']
    return {
        TORCH: ['-c', 'import torch'],
        "python -c 'import compsrt_basicsr'": ['-c', 'import compsrt_basicsr'],
        'compsrt --help': [*compsrt, '--help'],
        'compsrt --version': [*compsrt, '--version'],
        'compsrt upscale --help': [*compsrt, 'upscale', '--help'],
        'compsrt methods': [*compsrt, 'methods'],
        'compsrt zoo list': [*compsrt, 'zoo', 'list'],
        'compsrt size FILE (packed)': [*compsrt, 'size', str(NETWORK)],
        'compsrt no-such-command': [*compsrt, 'no-such-command'],
        'compsrt upscale (nothing to upscale)': [*compsrt, 'upscale'],
        'compsrt upscale MODEL IMAGE --tile many': [*compsrt, 'upscale', 'model', 'image.png', '--tile', 'many'],
        'basicsr --help': [*basicsr, '--help'],
        'basicsr --version': [*basicsr, '--version'],
        'basicsr no-such-command': [*basicsr, 'no-such-command'],
        'basicsr train (no option file)': [*basicsr, 'train'],
        f'compsrt upscale ({SIDE}x{SIDE} pixels)': [
            *compsrt, 'upscale', str(NETWORK), str(image), '-o', str(out), '--force',
        ],
    }  # fmt: skip


def processor_seconds(arguments: Sequence[str], folder: Path) -> float:
    """Runs Python once and returns its user and system time in seconds."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT), 'COMPSRT_OFFLINE': '1'}
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 2):  # 2: wrong usage
        raise SystemExit(f'python {" ".join(arguments)} ended with status {process.returncode}.')
    return usage.ru_utime + usage.ru_stime


def measure(repeats: int) -> dict[str, dict[str, float]]:
    """Returns minimum and median of each command, in seconds; the commands alternate, so that all share busy times.

    The first round only warms the caches.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = commands(folder)
        rounds = [{key: processor_seconds(words, folder) for key, words in chosen.items()} for _ in range(repeats + 1)]
    found = {}
    for command in chosen:
        times = [one[command] for one in rounds[1:]]
        found[command] = {'min': round(min(times), 3), 'median': round(statistics.median(times), 3)}
    return found


def table(record: dict) -> str:
    """Returns the record as a Markdown table."""
    rows = [(f'`{command}`', f'{t["min"]:.2f}', f'{t["median"]:.2f}') for command, t in record['seconds'].items()]
    return tabulate(rows, ['command', 'minimum (s)', 'median (s)'], 'github', disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('-o', '--out', type=Path, default=ROOT / 'docs/results/startup.json')
    parser.add_argument('--repeats', type=int, default=10, help='runs of each command')
    arguments = parser.parse_args()
    record = {
        'command': 'python scripts/benchmark_startup.py',
        'protocol': 'user and system time of one process on one thread, after one run that warms the caches',
        'repeats': arguments.repeats,
        'version': __version__,
        **hardware(),
        'seconds': measure(arguments.repeats),
    }
    write_text(arguments.out, json_text(record, indent=2))
    print(table(record))


if __name__ == '__main__':
    main()
