"""A reference method compared with the others, image by image and set by set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.study.stats.multiple_testing import holm
from compsrt_basicsr.study.stats.paired import PairedResult, compare_paired
from compsrt_basicsr.study.stats.seeds import Interval, mean_interval
from compsrt_basicsr.study.sweep.collect import Row, seed_of

REFERENCE = 'compsrt'
METRICS = ('psnr', 'ssim')
_FEW = 100  # resamples over sets, of which only the p-values are reported


@dataclass(frozen=True)
class Comparison:
    """The differences reference - other, paired by image.

    Attributes:
        reference, other: the rows.
        metric: 'psnr' or 'ssim'.
        sets: the test sets whose images are pooled.
        seeds: number of seeds over which each image is averaged, for reference and other.
        images: the tests over images.
        by_set: the published kind of test, over the means of the sets; None for a single set.
        by_seed: the mean difference of each seed that both have, with Student's interval; None below two such seeds.
        holm_p: Wilcoxon p over images, adjusted by `adjust_by_holm`; None before.
    """

    reference: Row
    other: Row
    metric: str
    sets: tuple[str, ...]
    seeds: tuple[int, int]
    images: PairedResult
    by_set: PairedResult | None
    by_seed: Interval | None
    holm_p: float | None = None


def compare_methods(rows: Sequence[Row], reference: str, metric: str) -> list[Comparison]:
    """Compares a reference with every other method at the same scale and bits.

    The value of an image is its mean over the seeds that both methods have, so that an image counts once. Rows with
    fewer than two common images are left out.

    Args:
        rows: rows of one protocol for each scale.
        reference: name of a row.
        metric: 'psnr' or 'ssim'.

    Raises:
        CompSRTError: if two rows have a set in common, but not its images.
    """
    found = []
    for mine in (row for row in rows if row.name == reference):
        for other in rows:
            is_rival = other is not mine and (other.scale, other.bits) == (mine.scale, mine.bits)
            sets = tuple(name for name in mine.sets if name in other.sets)
            if is_rival and sum(len(_images(mine, name)) for name in sets) > 1:
                found.append(_compare(mine, other, metric, sets))
    return found


def adjust_by_holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Adjusts the Wilcoxon p of comparisons for their number."""
    p_values = holm([comparison.images.wilcoxon_p for comparison in comparisons])
    return [replace(comparison, holm_p=p) for comparison, p in zip(comparisons, p_values)]


def check_reference(rows: Sequence[Row], asked: str | None) -> str | None:
    """Returns the reference: the one asked for, else `compsrt` if it was run, else None.

    Raises:
        CompSRTError: if the one asked for was not run.
    """
    names = list(dict.fromkeys(row.name for row in rows if not row.is_teacher))
    if asked is None:
        return REFERENCE if REFERENCE in names else None
    if asked not in names:
        raise CompSRTError(f'No run is of `{asked}`.{suggestion(asked, names)} There are: {"; ".join(names)}.')
    return asked


def pooled(row: Row, metric: str, sets: Sequence[str], seeds: Sequence[str] | None = None) -> np.ndarray:
    """Returns a value for each image of some sets, the mean over seeds, `(images,)`."""
    runs = [run for run in row.runs if seeds is None or seed_of(run) in seeds]
    values = [
        [run['results'][name]['images'][image][metric] for name in sets for image in sorted(_images(row, name))]
        for run in runs
    ]
    return np.mean(values, axis=0)


def _compare(mine: Row, other: Row, metric: str, sets: tuple[str, ...]) -> Comparison:
    seeds = [seed for seed in map(seed_of, mine.runs) if seed in set(map(seed_of, other.runs))] or None
    first, second = pooled(mine, metric, sets, seeds), pooled(other, metric, sets, seeds)
    if len(first) != len(second):
        raise CompSRTError(
            f'{mine.name} and {other.name} at {mine.bits} bits do not have the same images: test both on the same sets.'
        )
    means = [[pooled(row, metric, [name], seeds).mean() for name in sets] for row in (mine, other)]
    by_set = compare_paired(*means, resamples=_FEW) if len(sets) > 1 else None
    by_seed = None
    if seeds and len(seeds) > 1:
        leads = [pooled(mine, metric, sets, [seed]) - pooled(other, metric, sets, [seed]) for seed in seeds]
        by_seed = mean_interval([float(lead.mean()) for lead in leads])
    counts = (len(seeds), len(seeds)) if seeds else (len(mine.runs), len(other.runs))
    images = compare_paired(first.tolist(), second.tolist())
    return Comparison(mine, other, metric, sets, counts, images, by_set, by_seed)


def _images(row: Row, dataset: str) -> set[str]:
    return set(row.runs[0]['results'][dataset]['images'])
