"""Images that callers give as arrays and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compsrt_basicsr.errors import CompSRTError

_SLACK = 1e-3  # that floats may lie outside [0, 1], as those of other programs do


def checked_array(image: NDArray[Any]) -> NDArray[Any]:
    """Returns an image as (H, W, channels) of uint8, uint16 or float32.

    Args:
        image: (H, W) or (H, W, 1 to 4), uint8, uint16 or float in [0, 1]; floats without alpha.

    Raises:
        CompSRTError: if the array is no such image.
    """
    array = image if image.ndim == 3 else image[..., None]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4 or 0 in array.shape:
        raise CompSRTError(f'An image must be an array (H, W) or (H, W, 1 to 4), got the shape {image.shape}.')
    if array.dtype.kind == 'f':
        return _checked_floats(array)
    if array.dtype not in (np.uint8, np.uint16):
        raise CompSRTError(f'An image must be of uint8, uint16 or float, got {image.dtype}.')
    return array


def check_batch(batch: Tensor, channels: int, multiple: int = 1) -> None:
    """Checks a batch of images.

    Args:
        batch: (B, C, H, W) float.
        channels: C.
        multiple: of which H and W must be multiples.

    Raises:
        CompSRTError: if the tensor is no such batch.
    """
    if batch.ndim != 4 or not batch.is_floating_point() or 0 in batch.shape or batch.shape[1] != channels:
        raise CompSRTError(
            f'Images must be a float tensor (B, {channels}, H, W) in [0, 1], got {batch.dtype} of the shape '
            f'{tuple(batch.shape)}.'
        )
    if batch.shape[2] % multiple or batch.shape[3] % multiple:
        raise CompSRTError(
            f'Height and width must be multiples of {multiple}, the window of the network, got '
            f'{batch.shape[2]}x{batch.shape[3]}.'
        )


def to_uint8(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Rounds an image from `checked_array` to 8 bits."""
    if image.dtype == np.uint8:
        return image
    scale = 255 / 65535 if image.dtype == np.uint16 else 255
    return (image * np.float32(scale)).round().astype(np.uint8)


def _checked_floats(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.shape[2] not in (1, 3):
        raise CompSRTError(f'An image of floats must be grey or RGB, got {array.shape[2]} channels.')
    least, most = float(array.min()), float(array.max())
    if not (least >= -_SLACK and most <= 1 + _SLACK):  # false for NaN too
        raise CompSRTError(f'Floats of an image must lie in [0, 1], got {least:g} to {most:g}: divide by 255?')
    return array.astype(np.float32).clip(0, 1)
