"""Checked input of the statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compsrt_basicsr.errors import CompSRTError

RESAMPLED_AT_ONCE = 200_000  # values of a bootstrap that fit into the cache of a processor


def vector(values: Sequence[float], name: str, at_least: int) -> np.ndarray:
    """Returns finite values as float64, `(n,)`.

    Raises:
        CompSRTError: if there are too few values, one is not finite, or they are not one-dimensional.
    """
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise CompSRTError(f'`{name}` must be a list of numbers.') from None
    if found.ndim != 1:
        raise CompSRTError(f'`{name}` must be a list of numbers, got an array of shape {found.shape}.')
    if len(found) < at_least:
        raise CompSRTError(f'`{name}` must have at least {at_least} values, got {len(found)}.')
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        raise CompSRTError(f'`{name}` must be finite: value {bad[0]} is {found[bad[0]]}; leave such pairs out.')
    return found


def vectors(at_least: int, **named: Any) -> list[np.ndarray]:
    """Returns vectors of one length.

    Raises:
        CompSRTError: as `vector`, or if the lengths differ.
    """
    found = [vector(values, name, at_least) for name, values in named.items()]
    (first, *others) = named
    for name, values in zip(others, found[1:]):
        if len(values) != len(found[0]):
            raise CompSRTError(
                f'`{first}` and `{name}` must have the same length, got {len(found[0])} and {len(values)}.'
            )
    return found


def check_confidence(confidence: float) -> None:
    """Raises CompSRTError unless a confidence level lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise CompSRTError(f'`confidence` must be above 0 and below 1, got {confidence}.')


def check_resamples(resamples: int) -> None:
    """Raises CompSRTError unless a bootstrap has enough resamples for an interval."""
    if resamples < 100:
        raise CompSRTError(f'`resamples` must be at least 100, got {resamples}.')
