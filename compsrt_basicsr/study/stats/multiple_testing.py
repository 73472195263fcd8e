"""Adjusting p-values for many tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compsrt_basicsr.errors import CompSRTError


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979), which bounds the chance of any false rejection in the family.

    With m sorted p-values, p'_(k) = max over j <= k of min(1, (m - j + 1) p_(j)).

    Args:
        p_values: p-values of one family, 0 to 1.

    Returns:
        Adjusted p-values in the order of the given ones.

    Raises:
        CompSRTError: if a value is not a probability.
    """
    found = np.asarray(p_values, dtype=np.float64)
    wrong = found[~((found >= 0) & (found <= 1))]
    if len(wrong):
        raise CompSRTError(f'`p_values` must be 0 to 1, got {wrong[0]}.')
    order = np.argsort(found, kind='stable')
    scaled = np.minimum(1.0, found[order] * np.arange(len(found), 0, -1))
    adjusted = np.empty_like(found)
    adjusted[order] = np.maximum.accumulate(scaled)
    return adjusted.tolist()
