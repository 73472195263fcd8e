"""Masks of shifted windows by few operators.

The usual code writes nine regions one by one, which takes long to trace, and adds zeros where nothing is shifted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

_METHOD = 'calculate_mask'  # of Swin Transformer and of most networks made from it
_TESTED = 5, 3  # windows of the image on which both masks are compared


@contextmanager
def short_masks(network: nn.Module) -> Iterator[None]:
    """Replaces `calculate_mask` of the modules of a network inside the context where it returns the same mask."""
    replaced = []
    try:
        for module in network.modules():
            if (short := _short(module)) is not None:
                setattr(module, _METHOD, short)
                replaced.append(module)
        yield
    finally:
        for module in replaced:
            delattr(module, _METHOD)


def _short(module: Any) -> Callable[[Any], Tensor] | None:
    window, shift = (getattr(module, name, None) for name in ('window_size', 'shift_size'))
    if not (hasattr(module, _METHOD) and isinstance(window, int) and isinstance(shift, int) and 0 <= shift < window):
        return None
    sides = tuple(window * number for number in _TESTED)
    try:
        expected = module.calculate_mask(sides)
    except Exception as error:  # of any kind: the code of the network is unknown
        if is_out_of_memory(error):
            raise
        return None
    if shift == 0 and isinstance(expected, Tensor) and not bool(expected.any()):
        return lambda sides: torch.zeros(1, 1, 1)  # engines leave out the addition of one zero
    found = shifted_mask(window, shift, sides)
    same = isinstance(expected, Tensor) and expected.shape == found.shape and torch.equal(expected, found)
    return partial(shifted_mask, window, shift) if same else None


def shifted_mask(window: int, shift: int, sides: Any) -> Tensor:
    """Returns the mask (windows, N, N): -100 between tokens that only the shift made neighbours, else 0."""
    rows, columns = (_region(side, window, shift) for side in sides)
    regions: Tensor = rows[:, None] * 3 + columns[None]
    across = torch.div(torch._shape_as_tensor(columns)[0], window, rounding_mode='floor')
    shape: Any = (-1, window, across, window)
    windows = regions.reshape(shape).permute(0, 2, 1, 3).reshape(-1, window * window)
    return torch.where(windows[:, None] == windows[:, :, None], 0.0, -100.0)


def _region(side: Any, window: int, shift: int) -> Tensor:
    """Labels the positions of a side: 0 before the last window, 1 in it before the shift, 2 after the shift."""
    position = torch.arange(side)
    return (position >= side - window).long() + (position >= side - shift).long()
