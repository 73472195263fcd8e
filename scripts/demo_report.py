"""Writes the demo's results as a Markdown table and a JSON file."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from demo_images import TEST, TRAIN
from demo_runs import BITS, SCALE, TEACHER, Budget, Result
from tabulate import tabulate

from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

LEVELS = 2**BITS
HEADERS = ('network', 'PSNR-Y (dB)', 'SSIM-Y', 'most levels used', '')


def make_table(results: Sequence[Result]) -> str:
    """Formats the results as a Markdown table, with a note if quantizers use more codes than their bits allow."""
    rows = []
    for result in results:
        name = 'full precision' if result.levels_max is None else f'{result.recipe}, {result.stage}'
        levels = '–' if result.levels_max is None else f'{result.levels_max:,}'
        rows.append((name, f'{result.psnr:.2f}', f'{result.ssim:.4f}', levels, _note(result)))
    align = ('left', 'right', 'right', 'right', 'left')
    return tabulate(rows, HEADERS, tablefmt='github', colalign=align, disable_numparse=True)


def _note(result: Result) -> str:
    if not result.levels_over:
        return ''
    return f'not {BITS} bits: {result.levels_over} quantizers used more than {LEVELS} levels'


def write_results(file: Path, results: Sequence[Result], budget: Budget, seconds: float) -> None:
    """Writes the results with the protocol, the duration, and the versions and device they were made with."""
    record = {
        'protocol': {
            'network': f'SwinIR-light x{SCALE}, {BITS}-bit weights and activations',
            'teacher': TEACHER,
            'metrics': f'mean over the test images; Y channel, border of {SCALE} pixels cut, symmetric padding',
            'levels': 'distinct codes on the first test image, maximum over all quantizers',
            'photographs': f'scikit-image {version("scikit-image")}',
            'train': sorted(TRAIN),
            'test': sorted(TEST),
            **asdict(budget),
        },
        'results': [{k: v for k, v in asdict(result).items() if k != 'images'} for result in results],
        'seconds': round(seconds, 1),
        'versions': {name: version(name) for name in ('compsrt_basicsr', 'basicsr', 'torch')},
        'device': torch.cuda.get_device_name() if torch.cuda.is_available() else f'{platform.machine()} CPU',
    }
    write_text(file, json_text(record, indent=2))
