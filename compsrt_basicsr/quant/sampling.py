"""Samples of the rows of large tensors, the same ones for the same numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def some(rows: Tensor, count: int) -> Tensor:
    """Returns at most `count` of the rows (M, n)."""
    return rows if len(rows) <= count else rows[chosen_rows(len(rows), count).to(rows.device)]


def chosen_rows(total: int, count: int) -> Tensor:
    """Selects at most `count` of `total` rows, the same ones for the same numbers."""
    if total <= count:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(0))[:count]
