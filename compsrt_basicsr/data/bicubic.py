"""Bicubic resizing of 8-bit and 16-bit images, bit for bit as MATLAB's ``imresize`` does it.

For a whole scale factor every weight of the cubic kernel (Keys 1981, a = -0.5) is a fraction with one known
denominator. The weights are kept as whole numbers, so no result depends on the order of a sum, and a value half-way
between two grey levels rounds up on every machine, as MATLAB's ``uint8()`` and ``uint16()`` round it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from compsrt_basicsr.errors import CompSRTError

_Weights = Callable[[int, int], tuple[np.ndarray, np.ndarray, int]]
_LARGEST_INT32_SCALE = 16  # 16 * scale^4 * 255 * 2.6 stays below 2^31, for 8 bits


def mod_crop(image: np.ndarray, multiple: int) -> np.ndarray:
    """Cuts rows from the bottom and columns from the right until both lengths are multiples of `multiple`.

    Args:
        image: (H, W) or (H, W, C).
        multiple: at least 1.

    Returns:
        A view of shape (H // multiple * multiple, W // multiple * multiple[, C]).
    """
    height, width = image.shape[:2]
    return image[: height // multiple * multiple, : width // multiple * multiple]


def downscale(image: np.ndarray, scale: int) -> np.ndarray:
    """Reduces an image by a whole factor: MATLAB's ``imresize(image, 1 / scale)``, antialiased.

    The rows are reduced first; that result is rounded and clipped to whole levels before the columns are reduced.
    Lengths that `scale` does not divide give ``ceil(length / scale)`` as in MATLAB, and the last pixel then takes part
    of its weight from the mirrored border; call `mod_crop` first for training pairs.

    Args:
        image: uint8 or uint16 (H, W) or (H, W, C).
        scale: the factor, at least 1.

    Returns:
        The same type, (ceil(H / scale), ceil(W / scale)[, C]).

    Raises:
        CompSRTError: if `image` is no 8-bit or 16-bit image, or `scale` is no whole number of at least 1.
    """
    return _resize(image, scale, down_weights)


def upscale(image: np.ndarray, scale: int) -> np.ndarray:
    """Enlarges an image by a whole factor: MATLAB's ``imresize(image, scale)``.

    Args:
        image: uint8 or uint16 (H, W) or (H, W, C).
        scale: the factor, at least 1.

    Returns:
        The same type, (H * scale, W * scale[, C]).

    Raises:
        CompSRTError: if `image` is no 8-bit or 16-bit image, or `scale` is no whole number of at least 1.
    """
    return _resize(image, scale, up_weights)


@functools.lru_cache(maxsize=64)
def down_weights(length: int, scale: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns which input pixels make each output pixel of a reduction, and their shares.

    Output x (from 1) lies at u = scale * x + (1 - scale) / 2 on the input, and input j weighs
    cubic((u - j) / scale) / scale.

    Args:
        length: input pixels along the axis.
        scale: the factor.

    Returns:
        indices (taps, outputs), from 0 and mirrored at the borders; numerators (taps, outputs); their denominator.
    """
    x = np.arange(1, -(-length // scale) + 1)
    halves = 2 * scale * x + 1 - scale  # 2 u
    first = (halves - 4 * scale) // 2
    j = first + np.arange(4 * scale + 2)[:, None]
    numerators = _cubic(np.abs(halves - 2 * j), 2 * scale)
    return _finish(j, numerators, length, 2 * (2 * scale) ** 3 * scale)


@functools.lru_cache(maxsize=64)
def up_weights(length: int, scale: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns which input pixels make each output pixel of an enlargement, and their shares.

    Output x (from 1) lies at u = x / scale + (1 - 1 / scale) / 2 on the input, and input j weighs cubic(u - j).

    Args:
        length: input pixels along the axis.
        scale: the factor.

    Returns:
        indices (taps, outputs), from 0 and mirrored at the borders; numerators (taps, outputs); their denominator.
    """
    x = np.arange(1, length * scale + 1)
    parts = 2 * x + scale - 1  # 2 scale u
    first = parts // (2 * scale) - 2
    j = first + np.arange(6)[:, None]
    numerators = _cubic(np.abs(parts - 2 * scale * j), 2 * scale)
    return _finish(j, numerators, length, 2 * (2 * scale) ** 3)


def _cubic(t: np.ndarray, unit: int) -> np.ndarray:
    """Returns 2 unit^3 cubic(t / unit), a whole number, for t >= 0 and a = -0.5."""
    near = 3 * t**3 - 5 * t**2 * unit + 2 * unit**3
    far = -(t**3) + 5 * t**2 * unit - 8 * t * unit**2 + 4 * unit**3
    return np.where(t <= unit, near, np.where(t <= 2 * unit, far, 0))


def _finish(j: np.ndarray, numerators: np.ndarray, length: int, denominator: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Mirrors the input positions `j` (from 1) at the borders and drops taps that weigh nothing."""
    folded = (j - 1) % (2 * length)
    indices = np.where(folded < length, folded, 2 * length - 1 - folded)
    used = numerators.any(axis=1)
    indices, numerators = indices[used], numerators[used]
    indices.flags.writeable = numerators.flags.writeable = False  # the caller holds the cached arrays
    return indices, numerators, denominator


def _resize(image: np.ndarray, scale: int, weights: _Weights) -> np.ndarray:
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or 0 in image.shape:
        raise CompSRTError(
            f'`image` must be uint8 or uint16 of shape (H, W) or (H, W, C), got {image.dtype} of shape {image.shape}.'
        )
    if int(scale) != scale or scale < 1:
        raise CompSRTError(f'`scale` must be a whole number of at least 1, got {scale}.')
    rows = _apply(image, int(scale), weights)
    return np.ascontiguousarray(_apply(rows.swapaxes(0, 1), int(scale), weights).swapaxes(0, 1))


def _apply(image: np.ndarray, scale: int, weights: _Weights) -> np.ndarray:
    """Resizes axis 0 and rounds to whole levels, halves up."""
    indices, numerators, denominator = weights(image.shape[0], scale)
    dtype = np.int32 if image.dtype == np.uint8 and scale <= _LARGEST_INT32_SCALE else np.int64
    image = np.ascontiguousarray(image)
    total = np.zeros((indices.shape[1], *image.shape[1:]), dtype)
    column = (-1,) + (1,) * (image.ndim - 1)
    for index, numerator in zip(indices, numerators):
        total += image[index] * numerator.astype(dtype).reshape(column)
    return np.clip((2 * total + denominator) // (2 * denominator), 0, np.iinfo(image.dtype).max).astype(image.dtype)
