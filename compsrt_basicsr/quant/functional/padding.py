"""Padding of pictures whose sides are no multiple of the attention window."""

from __future__ import annotations

import torch
from torch import Tensor

PAD_MODES = ('symmetric', 'reflect')


def pad_to_multiple(x: Tensor, multiple: int, mode: str = 'symmetric') -> Tensor:
    """Mirrors a picture at its right and bottom edge until both sides are multiples of a number.

    Args:
        x: (B, C, H, W), H and W at least 1; smaller than the padding is allowed, the mirror then repeats.
        multiple: window size.
        mode: 'symmetric' repeats the edge pixel, like SwinIR's own test; 'reflect' does not, like BasicSR.

    Returns:
        (B, C, H', W').
    """
    height, width = x.shape[-2:]
    rows = mirror_indices(height, multiple, mode).to(x.device)
    columns = mirror_indices(width, multiple, mode).to(x.device)
    return x[:, :, rows][:, :, :, columns] if len(rows) > height or len(columns) > width else x


def mirror_indices(length: int, multiple: int, mode: str = 'symmetric') -> Tensor:
    """Which pixel stands at each place of a padded row: (length', ), going back and forth past the end.

    Args:
        length: pixels of the row, at least 1.
        multiple: what length' must be a multiple of.
        mode: as in `pad_to_multiple`.
    """
    period = 2 * length if mode == 'symmetric' else max(2 * length - 2, 1)
    position = torch.arange(length + -length % multiple) % period
    return torch.minimum(position, (period - 1 if mode == 'symmetric' else period) - position)
