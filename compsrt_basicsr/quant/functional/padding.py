"""Mirror padding of images whose sides are not a multiple of the attention window."""

from __future__ import annotations

import torch
from torch import Tensor

from compsrt_basicsr.utils.made_once import made_once


def pad_to_multiple(x: Tensor, multiple: int, mode: str = 'symmetric', least: int = 0) -> Tensor:
    """Pads images by mirroring at the right and bottom edge until both sides are a multiple of `multiple`.

    Args:
        x: (B, C, H, W), H and W at least 1. If a side is smaller than its padding, the mirror repeats.
        multiple: window size in pixels.
        mode: 'symmetric' repeats the edge pixel, as SwinIR's own test does; 'reflect' does not, as BasicSR does.
        least: smallest side after padding, a multiple of `multiple`.

    Returns:
        (B, C, H', W').
    """
    height, width = x.shape[-2:]
    rows, columns = (mirror_indices(length, multiple, mode, least, x.device) for length in (height, width))
    return x[:, :, rows][:, :, :, columns] if len(rows) > height or len(columns) > width else x


@made_once(16)
def mirror_indices(
    length: int,
    multiple: int,
    mode: str = 'symmetric',
    least: int = 0,
    device: torch.device | None = None,
) -> Tensor:
    """Returns the source pixel of each position of a padded row.

    Args:
        length: pixels of the row, at least 1.
        multiple: the padded length is the next multiple of this.
        mode: as in `pad_to_multiple`.
        least: the padded length is at least this, a multiple of `multiple`.
        device: where the indices are made; None: on the CPU.

    Returns:
        (padded length,) int64 indices in [0, length).
    """
    period = 2 * length if mode == 'symmetric' else max(2 * length - 2, 1)
    position = torch.arange(max(length + -length % multiple, least), device=device) % period
    return torch.minimum(position, (period - 1 if mode == 'symmetric' else period) - position)
