"""The demo's picture: the same detail of each held-out photograph, from the bicubic enlargement to the original."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from demo_runs import BITS, SCALE, Result
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

from compsrt_basicsr.data.bicubic import downscale, upscale

matplotlib.use('Agg')  # no window: the demo runs without a display

from matplotlib import pyplot

# Top left corner of the detail, as a share of the test picture's side; its own side is a quarter of that.
DETAILS = {'astronaut': (0.38, 0.24), 'chelsea': (0.10, 0.30), 'coffee': (0.55, 0.55)}
DETAIL_SHARE = 4
ORIGINAL, BICUBIC = 'original', 'bicubic'


def draw_comparison(file: Path, results: Sequence[Result], originals: Path) -> None:
    """Draws one row for each photograph, one column for each way to enlarge it; PSNR is of the whole photograph.

    Args:
        file: the PNG to write.
        results: tested networks; those of the paper range are left out, for they are not comparable.
        originals: folder of the HR pictures.
    """
    shown = [result for result in results if result.recipe != 'paper']
    names = list(DETAILS)
    figure, axes = pyplot.subplots(
        len(names), len(shown) + 3, figsize=(11.4, 6.75), squeeze=False, layout='constrained'
    )
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.07, wspace=0)
    for index, (row, name) in enumerate(zip(axes, names)):
        original = _read(originals / f'{name}.png')
        pictures = {BICUBIC: upscale(downscale(original, SCALE), SCALE)}
        pictures |= {_label(result): _read(result.pictures / f'{name}_x{SCALE}.png') for result in shown}
        box = _detail(name, len(original))
        _show(row[0], original, name, '')
        row[0].add_patch(Rectangle(box[:2], box[2], box[2], fill=False, edgecolor='yellow', linewidth=1.5))
        for axis, (label, picture) in zip(row[1:], (pictures | {ORIGINAL: original}).items()):
            left, top, side = box
            note = '' if label == ORIGINAL else f'{_psnr(picture, original):.2f} dB'
            _show(axis, picture[top : top + side, left : left + side], '' if index else label, note)
    figure.canvas.draw()
    Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]).save(file, optimize=True)
    pyplot.close(figure)


def _label(result: Result) -> str:
    return 'teacher, float' if result.stage == 'teacher' else f'{BITS} bits, {result.stage}'


def _detail(name: str, side: int) -> tuple[int, int, int]:
    """Left, top and side of a photograph's detail in pixels."""
    left, top = (round(share * side) for share in DETAILS[name])
    return left, top, side // DETAIL_SHARE


def _psnr(picture: np.ndarray, original: np.ndarray) -> float:
    """PSNR in dB on the Y channel, as in the tests; both (H, W, 3) RGB uint8."""
    from basicsr.metrics import calculate_psnr  # not above: sorted imports put basicsr before the package that mends it

    return calculate_psnr(picture[..., ::-1], original[..., ::-1], crop_border=SCALE, test_y_channel=True)


def _read(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert('RGB'))


def _show(axis: Axes, picture: np.ndarray, title: str, note: str) -> None:
    axis.imshow(picture, interpolation='nearest')
    axis.set_title(title, fontsize=12)
    axis.set_xlabel(note, fontsize=11)
    axis.set_xticks([])
    axis.set_yticks([])
