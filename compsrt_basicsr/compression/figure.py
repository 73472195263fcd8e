"""The image of the report: details in full precision, quantized, and their difference."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from compsrt_basicsr.compression.images import Photograph

_SIDE, _ZOOM, _MOST, _GAP, _HEAD = 96, 2, 3, 8, 22  # pixels, factor, rows, pixels, pixels
_LEAST_FACTOR, _MOST_FACTOR = 1, 64  # of the differences


def report_image(
    images: Sequence[Photograph], before: Sequence[np.ndarray], after: Sequence[np.ndarray], with_original: bool
) -> bytes:
    """Draws the detail of each image where the difference is largest; returns a PNG.

    Args:
        images: the photographs.
        before, after: results of the full-precision and the quantized network, (H, W, 1 or 3) in [0, 1].
        with_original: whether to show the original too.
    """
    from PIL import Image, ImageDraw, ImageFont

    rows = [_row(*each, with_original) for each in zip(images[:_MOST], before, after)]
    factor = _factor([before_ - after_ for _, before_, after_ in rows])
    titles = [*(('original',) if with_original else ()), 'full precision', 'quantized', f'difference x {factor}']
    side = _SIDE * _ZOOM
    size = (len(titles) * (side + _GAP) + _GAP, _HEAD + len(rows) * (side + _GAP))
    canvas = Image.new('RGB', size, 'white')
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default()
    for column, title in enumerate(titles):
        draw.text((_GAP + column * (side + _GAP), 5), title, 'black', font)
    for number, (original, reference, result) in enumerate(rows):
        difference = 0.5 + factor * (result - reference)
        shown = [*((original,) if with_original else ()), reference, result, difference]
        for column, values in enumerate(shown):
            pixels = (values.clip(0, 1) * 255).round().astype(np.uint8)
            pixels = pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)
            cell = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(cell, (_GAP + column * (side + _GAP), _HEAD + number * (side + _GAP)))
    buffer = io.BytesIO()
    canvas.save(buffer, 'PNG', optimize=True)
    return buffer.getvalue()


def _row(
    image: Photograph, before: np.ndarray, after: np.ndarray, with_original: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts the square with the largest difference."""
    error = np.square(before - after).mean(2)
    step, side = _SIDE // 2, min(_SIDE, *error.shape)
    places = [
        (top, left)
        for top in range(0, error.shape[0] - side + 1, step)
        for left in range(0, error.shape[1] - side + 1, step)
    ]
    top, left = max(places, key=lambda place: error[place[0] : place[0] + side, place[1] : place[1] + side].mean())
    original = image.original.astype(np.float32) / 255 if with_original else before
    cuts = [values[top : top + side, left : left + side] for values in (original, before, after)]
    return cuts[0], cuts[1], cuts[2]


def _factor(differences: Sequence[np.ndarray]) -> int:
    """Returns the power of two by which the largest differences fill the range."""
    top = max((float(np.percentile(np.abs(x), 99.5)) for x in differences), default=0.0)
    factor = _LEAST_FACTOR
    while factor < _MOST_FACTOR and 2 * factor * top <= 0.5:
        factor *= 2
    return factor
