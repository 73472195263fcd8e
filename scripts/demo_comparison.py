"""Draws the demo's comparison image: one detail of each test photograph, from bicubic upscaling to the original."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from demo_runs import BITS, SCALE, Result
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

from compsrt_basicsr.data.bicubic import downscale, upscale

matplotlib.use('Agg')  # the demo runs without a display

from matplotlib import pyplot

# Top left corner (x, y) of the detail as a fraction of the image side; the detail has a quarter of that side.
DETAILS = {'astronaut': (0.38, 0.24), 'chelsea': (0.10, 0.30), 'coffee': (0.55, 0.55)}
DETAIL_DIVISOR = 4
ORIGINAL, BICUBIC = 'original', 'bicubic'
LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # R, G, B weights of Y (BT.601)


def draw_comparison(file: Path, results: Sequence[Result], originals: Path) -> None:
    """Draws one row per photograph and one column per upscaling method, with the PSNR of the whole photograph.

    Args:
        file: the PNG to write.
        results: tested networks; those in paper range are omitted, because they are not comparable.
        originals: folder of the HR images.
    """
    shown = [result for result in results if result.recipe != 'paper']
    names = list(DETAILS)
    figure, axes = pyplot.subplots(
        len(names), len(shown) + 3, figsize=(11.4, 6.75), squeeze=False, layout='constrained'
    )
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.07, wspace=0)
    for index, (row, name) in enumerate(zip(axes, names)):
        original = _read(originals / f'{name}.png')
        images = {BICUBIC: upscale(downscale(original, SCALE), SCALE)}
        images |= {_label(result): _read(result.images / f'{name}_x{SCALE}.png') for result in shown}
        left, top, side = _detail(name, len(original))
        _show(row[0], original, name, '')
        row[0].add_patch(Rectangle((left, top), side, side, fill=False, edgecolor='yellow', linewidth=1.5))
        for axis, (label, image) in zip(row[1:], (images | {ORIGINAL: original}).items()):
            note = '' if label == ORIGINAL else f'{psnr_y(image, original):.2f} dB'
            _show(axis, image[top : top + side, left : left + side], '' if index else label, note)
    figure.canvas.draw()
    Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]).save(file, optimize=True)
    pyplot.close(figure)


def _label(result: Result) -> str:
    return 'teacher, float' if result.stage == 'teacher' else f'{BITS} bits, {result.stage}'


def _detail(name: str, side: int) -> tuple[int, int, int]:
    """Returns left, top and side of a photograph's detail in pixels."""
    left, top = (round(fraction * side) for fraction in DETAILS[name])
    return left, top, side // DETAIL_DIVISOR


def psnr_y(image: np.ndarray, original: np.ndarray) -> float:
    """Computes the PSNR on the Y channel without a border of SCALE pixels in dB; both (H, W, 3) RGB uint8."""
    error = (image.astype(np.float64) - original) @ LUMA
    return 10 * math.log10(255**2 / np.square(error[SCALE:-SCALE, SCALE:-SCALE]).mean())


def _read(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert('RGB'))


def _show(axis: Axes, image: np.ndarray, title: str, note: str) -> None:
    axis.imshow(image, interpolation='nearest')
    axis.set_title(title, fontsize=12)
    axis.set_xlabel(note, fontsize=11)
    axis.set_xticks([])
    axis.set_yticks([])
