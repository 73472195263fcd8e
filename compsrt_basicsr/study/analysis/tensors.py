"""Reading the tensors of an analysis, as analysis.json holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Tensor = Mapping[str, Any]


def distinct(tensors: Iterable[Tensor], kind: str | None = None) -> list[Tensor]:
    """Returns the analysed tensors, one of each group of identical ones, of one kind or of both."""
    return [t for t in tensors if not t['skipped'] and not t['same_as'] and kind in (None, t['kind'])]


def gain(before: Mapping[str, Any], after: Mapping[str, Any], bits: int | str) -> float:
    """Gain in SQNR, in dB, between the measures of one tensor under two transforms."""
    return after['quant'][str(bits)]['sqnr'] - before['quant'][str(bits)]['sqnr']
