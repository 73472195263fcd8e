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
    rows = _mirror(height, -height % multiple, mode, x.device)
    columns = _mirror(width, -width % multiple, mode, x.device)
    return x[:, :, rows][:, :, :, columns] if len(rows) > height or len(columns) > width else x


def _mirror(length: int, extra: int, mode: str, device: torch.device) -> Tensor:
    """Indices 0 .. length - 1 and `extra` more, going back and forth."""
    period = 2 * length if mode == 'symmetric' else max(2 * length - 2, 1)
    position = torch.arange(length + extra, device=device) % period
    return torch.minimum(position, (period - 1 if mode == 'symmetric' else period) - position)
