"""The reference method against each other one, picture by picture and set by set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.study.stats.multiple_testing import holm
from compsrt_basicsr.study.stats.paired import PairedResult, compare_paired
from compsrt_basicsr.study.sweep.collect import Row, seed_of

REFERENCE = 'compsrt'
METRICS = ('psnr', 'ssim')
_FEW = 100  # of sets only the p-values are told


@dataclass(frozen=True)
class Contest:
    """Reference - other, paired by picture.

    Attributes:
        reference, other: the rows.
        metric: 'psnr' or 'ssim'.
        sets: the test sets whose pictures are pooled.
        seeds: how many seeds each picture is averaged over, for reference and other.
        pictures: the test over pictures.
        holm_p: its Wilcoxon p, adjusted for its family by `adjusted`; None before.
        by_set: the published kind of test, over the means of the sets; None for a single set.
    """

    reference: Row
    other: Row
    metric: str
    sets: tuple[str, ...]
    seeds: tuple[int, int]
    pictures: PairedResult
    holm_p: float | None
    by_set: PairedResult | None


def contests(rows: Sequence[Row], reference: str, metric: str) -> list[Contest]:
    """Compares the reference with every other method at the same scale and bits.

    A picture's value is its mean over the seeds that both methods have, so that a picture counts once. A single picture
    is no comparison: there is none then.

    Args:
        rows: of one protocol a scale.
        reference: name of a row.
        metric: 'psnr' or 'ssim'.
    """
    found = []
    for mine in (row for row in rows if row.name == reference):
        for other in rows:
            same = (other.scale, other.bits) == (mine.scale, mine.bits)
            sets = tuple(name for name in mine.sets if name in other.sets)
            if same and other is not mine and sum(len(_pictures(mine, name)) for name in sets) > 1:
                found.append(_contest(mine, other, metric, sets))
    return found


def adjusted(family: Sequence[Contest]) -> list[Contest]:
    """Contests of one family with Holm's adjustment of their Wilcoxon p over all of them."""
    p_values = holm([contest.pictures.wilcoxon_p for contest in family])
    return [replace(contest, holm_p=p) for contest, p in zip(family, p_values)]


def check_reference(rows: Sequence[Row], asked: str | None) -> str | None:
    """The reference: the one asked for, `compsrt` if it is there, else none.

    Raises:
        CompSRTError: the one asked for is not there.
    """
    names = list(dict.fromkeys(row.name for row in rows if not row.is_teacher))
    if asked is None:
        return REFERENCE if REFERENCE in names else None
    if asked not in names:
        raise CompSRTError(f'No run is of `{asked}`.{suggestion(asked, names)} There are: {"; ".join(names)}.')
    return asked


def pooled(row: Row, metric: str, sets: Sequence[str], seeds: Sequence[str] | None = None) -> np.ndarray:
    """A value for each picture of some sets, the mean over seeds, `(pictures,)`."""
    runs = [run for run in row.runs if seeds is None or seed_of(run) in seeds]
    values = [
        [run['results'][name]['images'][picture][metric] for name in sets for picture in sorted(_pictures(row, name))]
        for run in runs
    ]
    return np.mean(values, axis=0)


def _contest(mine: Row, other: Row, metric: str, sets: tuple[str, ...]) -> Contest:
    seeds = [seed for seed in map(seed_of, mine.runs) if seed in set(map(seed_of, other.runs))] or None
    first, second = pooled(mine, metric, sets, seeds), pooled(other, metric, sets, seeds)
    if len(first) != len(second):
        raise CompSRTError(
            f'{mine.name} and {other.name} at {mine.bits} bits do not have the same pictures: test both on the same '
            'sets.'
        )
    means = [[pooled(row, metric, [name], seeds).mean() for name in sets] for row in (mine, other)]
    by_set = compare_paired(*means, resamples=_FEW) if len(sets) > 1 else None
    counts = (len(seeds),) * 2 if seeds else (len(mine.runs), len(other.runs))
    return Contest(mine, other, metric, sets, counts, compare_paired(first, second), None, by_set)


def _pictures(row: Row, dataset: str) -> set[str]:
    return set(row.runs[0]['results'][dataset]['images'])
