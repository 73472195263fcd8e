"""Rough estimates of the time of a run on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Seconds per LR pixel on two cores of a server processor: `compsrt` in docs/results/step.json.
SECONDS_PER_TRAINED_PIXEL = 0.92 / (4 * 32 * 32)
# Fake quantization of large images: the profile in docs/results/execution.json has 0.54 s for as many on one core.
SECONDS_PER_TESTED_PIXEL = 0.5 / (4 * 32 * 32)
# HR pixels of the test sets in millions; the last two from their usual sizes.
HR_MEGAPIXELS = {'Set5': 0.6, 'Set14': 3.2, 'B100': 15.4, 'Urban100': 78.0, 'Manga109': 106.0}


def seconds_to_train(options: Mapping[str, Any]) -> float:
    """Returns the time of a training on a CPU, from iterations, batch and patch size."""
    train = options['datasets']['train']
    side = train['gt_size'] / options['scale']
    return options['train']['total_iter'] * train['batch_size_per_gpu'] * side**2 * SECONDS_PER_TRAINED_PIXEL


def seconds_to_test(scale: int, test_sets: tuple[str, ...]) -> float:
    """Returns the time of a test on a CPU."""
    return sum(HR_MEGAPIXELS[name] for name in test_sets) * 1e6 / scale**2 * SECONDS_PER_TESTED_PIXEL


def duration(seconds: float) -> str:
    """Returns such as '40 s', '25 min' or '31 h'."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.0f} h'
