"""Errors of linear algebra as sentences that name the layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from compsrt_basicsr.errors import CompSRTError


@contextmanager
def naming_layer(name: str, way_out: str) -> Iterator[None]:
    """Turns errors of linear algebra into a CompSRTError.

    Args:
        name: dotted name of the layer whose weight is computed.
        way_out: the option of `calibration` that leaves the computation out, with its value.
    """
    try:
        yield
    except LinAlgError as error:
        raise CompSRTError(
            f'The weight of layer `{name}` cannot be computed in calibration ({error}): check the weights and the '
            f'calibration images for NaN and extreme values, or set `calibration.{way_out}`.'
        ) from error
