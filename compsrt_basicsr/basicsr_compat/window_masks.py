"""Masks of shifted attention windows, made on the device of the network, once for a size.

Windows that wrap around the image hold parts that are no neighbours: the last row of windows, the last column, and the
corner of both. All others need no mask, so there are four different masks in all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compsrt_basicsr.utils.made_once import made_once

MASKED = -100.0
_LARGEST = 2**26  # bytes of the masks of an image that are kept


@made_once(8)
def shift_masks(window: int, shift: int, device: torch.device) -> Tensor:
    """Returns the different masks of shifted windows, (4, n, n) of 0 and -100 for the n tokens of a window.

    Masks 1, 2 and 3 separate the parts of the last column, of the last row, and of the corner; mask 0 is zero.
    """
    late = torch.arange(window, device=device) >= window - shift
    rows, columns = late.repeat_interleave(window), late.repeat(window)
    across, down = columns[:, None] != columns, rows[:, None] != rows
    return torch.where(torch.stack([torch.zeros_like(across), across, down, across | down]), MASKED, 0.0)


@made_once(8)
def window_kinds(rows: int, columns: int, device: torch.device) -> Tensor:
    """Returns which of `shift_masks` each of rows x columns windows needs, (rows columns,) int64."""
    last_row = torch.arange(rows, device=device) == rows - 1
    last_column = torch.arange(columns, device=device) == columns - 1
    return (2 * last_row[:, None] + last_column.long()).flatten()


def window_masks(window: int, shift: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Returns the mask of each of rows x columns shifted windows, (rows columns, n, n).

    Args:
        window: side of the windows in pixels.
        shift: of the windows in pixels, above 0.
        rows, columns: number of windows in a column and in a row of the image.
        device: where the mask is made.
    """
    small = rows * columns * window**4 * 4 <= _LARGEST
    return (_kept if small else _gathered)(window, shift, rows, columns, device)


def _gathered(window: int, shift: int, rows: int, columns: int, device: torch.device) -> Tensor:
    return shift_masks(window, shift, device).index_select(0, window_kinds(rows, columns, device))


_kept = made_once(2)(_gathered)
