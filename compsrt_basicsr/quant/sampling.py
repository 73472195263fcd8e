"""Samples of the rows of large tensors, the same ones for the same numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from compsrt_basicsr.utils.made_once import made_once


def some(rows: Tensor, count: int) -> Tensor:
    """Returns at most `count` of the rows (M, n)."""
    return rows if len(rows) <= count else rows[chosen_rows(len(rows), count, rows.device)]


@made_once(8)
def chosen_rows(total: int, count: int, device: torch.device) -> Tensor:
    """Selects at most `count` of `total` rows, the same ones for the same numbers on every device."""
    if total <= count:
        return torch.arange(total, device=device)
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(0))[:count]
    return chosen.sort().values.to(device)  # memory is read in order
