"""The figure of a comparison, for a page of a paper."""

from __future__ import annotations

import io
import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.compare.layout import LEFT, LINE, MARGIN, Box, Layout, column_width, make_layout
from compsrt_basicsr.study.compare.report import ORIGINAL, region_name
from compsrt_basicsr.study.compare.results import TEACHER, Comparison, Scores, luma
from compsrt_basicsr.study.compare.sharpness import NYQUIST, ring_frequencies

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = ('.png', '.svg', '.pdf')
MAP = 'magma'  # of the error: brightness grows evenly, in grey prints and for colour-blind readers too
_TEXT, _LABEL = 6.5, 7.0  # points
_FRAME = '#F0E442'
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')  # Okabe and Ito
_LINES = ('-', (0, (4, 1.2)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
_SETTINGS = {
    'font.family': 'DejaVu Sans',
    'font.size': _TEXT,
    'pdf.fonttype': 42,  # fonts that publishers accept
    'svg.hashsalt': 'compsrt',  # the same file at every call
    'axes.linewidth': 0.5,
}


def check_figure_file(file: Path) -> None:
    """Refuses, before any work, a name that no figure can be written under.

    Raises:
        CompSRTError: it has another suffix, its folder is missing or read-only, or matplotlib is not installed.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise CompSRTError(f'`{file}` does not end in {", ".join(SUFFIXES)}: give the figure one of these suffixes.')
    if file.is_dir() or not file.parent.is_dir():
        raise CompSRTError(f'`{file}` is no place for a file: give a name in a folder that exists.')
    try:
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise CompSRTError(f'`{file.parent}` cannot be written to ({error.strerror}): give another folder.') from error
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise CompSRTError('`compsrt compare` draws with matplotlib: `python -m pip install matplotlib`.') from error


def draw(comparison: Comparison, suffix: str, dpi: int) -> bytes:
    """Draws a comparison, see `make_figure`.

    Args:
        comparison: what to draw.
        suffix: one of `SUFFIXES`.
        dpi: pixels per inch of a PNG, and of the pictures in the other kinds.

    Returns:
        The file's bytes, the same for the same comparison.
    """
    import matplotlib

    undated = {'.png': {}, '.svg': {'Date': None}, '.pdf': {'CreationDate': None}}[suffix]
    buffer = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        make_figure(comparison).savefig(buffer, format=suffix[1:], dpi=dpi, metadata=undated)
    return buffer.getvalue()


def make_figure(comparison: Comparison) -> Figure:
    """The figure of a comparison, without pyplot's state.

    At the left the whole picture with its regions framed, below it the radial power spectrum of each result relative to
    the original. At the right a column for each result: the line of its curve, its label, and for each region the
    pixels as they are (nearest neighbour) and the absolute error of Y on a scale that all maps share.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(comparison.results) + 1
    labels = [_fit(result.label, column_width(columns)) for result in comparison.results] + [ORIGINAL]
    height, width = comparison.original.shape[:2]
    aspects = [region.height / region.width for region in comparison.regions]
    layout = make_layout(columns, aspects, height / width, max(label.count('\n') + 1 for label in labels))
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(layout.width, layout.height))
        FigureCanvasAgg(figure)
        sheet = _Sheet(figure, layout)
        _draw_picture(sheet, comparison)
        _draw_spectrum(sheet, comparison)
        _draw_headers(sheet, comparison, labels)
        _draw_details(sheet, comparison)
        _draw_errors(sheet, comparison)
    return figure


def error_limit(comparison: Comparison) -> int:
    """The end of the scale of the error maps, in grey levels of Y.

    The 99.5th percentile of what the maps show, rounded up to a multiple of 5: a few stray pixels should not darken
    all maps.
    """
    errors = [error.ravel() for maps in _errors(comparison) for error in maps]
    return max(5, 5 * math.ceil(np.percentile(np.concatenate(errors), 99.5) / 5))


class _Sheet:
    """A figure on which things are placed in inches from its top left corner."""

    def __init__(self, figure: Figure, layout: Layout) -> None:
        self.figure, self.layout = figure, layout

    def axes(self, box: Box) -> Any:
        width, height = self.layout.width, self.layout.height
        return self.figure.add_axes((box.left / width, 1 - box.bottom / height, box.width / width, box.height / height))

    def text(self, x: float, y: float, text: str, **options: Any) -> None:
        """Text whose anchor is at the middle of its top edge, unless `options` say otherwise."""
        options = {'ha': 'center', 'va': 'top', 'parse_math': False, **options}
        self.figure.text(x / self.layout.width, 1 - y / self.layout.height, text, **options)

    def picture(self, box: Box, values: np.ndarray, **options: Any) -> tuple[Any, Any]:
        """Shows pixels in a box, centred, in their own proportions; returns axes and image."""
        height, width = values.shape[:2]
        zoom = min(box.width / width, box.height / height)
        shown = Box(
            box.left + (box.width - width * zoom) / 2,
            box.top + (box.height - height * zoom) / 2,
            width * zoom,
            height * zoom,
        )
        axes = self.axes(shown)
        image = axes.imshow(values, aspect='auto', **options)
        axes.set_xticks([])
        axes.set_yticks([])
        return axes, image


def _fit(label: str, inches: float) -> str:
    """Breaks a label into lines that fit into a column; a word too long for one is broken anywhere."""
    pieces = re.findall(r'[^_\-/. ]+[_\-/. ]*|[_\-/. ]+', label)
    lines = ['']
    for piece in pieces:
        if lines[-1] and _text_width(lines[-1] + piece.rstrip()) > inches:
            lines.append('')
        for letter in piece:
            if lines[-1] and _text_width(lines[-1] + letter.rstrip()) > inches:
                lines.append('')
            lines[-1] += letter
    return '\n'.join(line.rstrip() for line in lines)


def _shorten(text: str, inches: float) -> str:
    if _text_width(text) <= inches:
        return text
    while text and _text_width(f'{text}…') > inches:
        text = text[:-1]
    return f'{text}…'


def _text_width(text: str) -> float:
    """Of a bold label, in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    bold = FontProperties(family='DejaVu Sans', weight='bold')
    plain = text.replace('$', 'S')  # no formula
    return TextPath((0, 0), plain, size=_LABEL, prop=bold).get_extents().width / 72 if text.strip() else 0.0


def _style(comparison: Comparison, number: int) -> dict[str, Any]:
    """Of a result's curve: grey for bicubic, black for the teacher, a colour for each model."""
    role = comparison.results[number].role
    if number == 0:
        return {'color': '#888888', 'linestyle': '-', 'linewidth': 1.1}
    if role == TEACHER:
        return {'color': 'black', 'linestyle': '-', 'linewidth': 1.1}
    model = number - (2 if comparison.teacher else 1)
    line = _LINES[(model + 1) % len(_LINES)]
    return {'color': _COLOURS[model % len(_COLOURS)], 'linestyle': line, 'linewidth': 1.3}


def _draw_picture(sheet: _Sheet, comparison: Comparison) -> None:
    from matplotlib.patches import Rectangle

    box = sheet.layout.picture
    title = f'{_shorten(comparison.name, LEFT - 0.3)}, ×{comparison.scale}'
    sheet.text(box.left + box.width / 2, MARGIN, title, weight='bold', size=_LABEL)
    axes, _ = sheet.picture(box, comparison.original)
    for number, region in enumerate(comparison.regions):
        for colour, line in (('black', 2.0), (_FRAME, 1.0)):
            place = (region.x - 0.5, region.y - 0.5)
            axes.add_patch(
                Rectangle(place, region.width, region.height, fill=False, edgecolor=colour, linewidth=line, zorder=2)
            )
        low = region.y > 0.1 * comparison.original.shape[0]  # whether there is room above
        axes.annotate(
            region_name(number),
            (region.x, region.y if low else region.y + region.height),
            (0, 1.5 if low else -1.5),
            textcoords='offset points',
            va='bottom' if low else 'top',
            **_tag(),
        )


def _tag() -> dict[str, Any]:
    """How the name of a region is written on a picture."""
    box = {'boxstyle': 'square,pad=0.15', 'facecolor': _FRAME, 'edgecolor': 'black', 'linewidth': 0.5}
    return {'size': _TEXT, 'weight': 'bold', 'ha': 'left', 'bbox': box, 'zorder': 3}


def _draw_spectrum(sheet: _Sheet, comparison: Comparison) -> None:
    box = sheet.layout.spectrum
    axes = sheet.axes(box)
    frequencies = ring_frequencies()
    axes.axhline(0, color='#BBBBBB', linewidth=0.6)
    axes.axvline(comparison.cutoff, color='#BBBBBB', linewidth=0.6, linestyle=(0, (3, 2)))
    for number, result in enumerate(comparison.results):
        axes.plot(frequencies, _decibels(result.sharpness.spectrum, comparison.sharpness.spectrum),
                  **_style(comparison, number))  # fmt: skip
    axes.set_xlim(0, NYQUIST)
    axes.tick_params(length=2, width=0.5, pad=1.5, labelsize=6)
    axes.set_xlabel('cycles per pixel (dashed: limit of LR)', labelpad=1.5, size=6)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    title = f'power spectrum relative to {ORIGINAL} (dB)'
    sheet.text(box.right, box.top - 0.04, title, va='bottom', ha='right')


def _decibels(spectrum: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Ten times the logarithm of the ratio; NaN, which no curve shows, where there is none."""
    valid = (spectrum > 0) & (reference > 0)
    ratio = np.divide(spectrum, reference, out=np.full(len(spectrum), np.nan), where=valid)
    return 10 * np.log10(ratio)


def _draw_headers(sheet: _Sheet, comparison: Comparison, labels: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    width, height = sheet.layout.width, sheet.layout.height
    for number, (label, box) in enumerate(zip(labels, sheet.layout.headers)):
        middle = box.left + box.width / 2
        baseline = box.bottom - LINE / 4
        for line in reversed(label.split('\n')):  # one by one: a block would hang by the tails of its last line
            baseline -= LINE
            sheet.text(middle, baseline, line, va='baseline', weight='bold', size=_LABEL)
        if number == len(comparison.results):
            sheet.text(middle, box.bottom - LINE / 4, 'dB / SSIM, picture', va='baseline')
            continue
        sheet.text(middle, box.bottom - LINE / 4, _caption(comparison.results[number].whole), va='baseline')
        y = 1 - (box.top + 0.02) / height
        ends = [(middle - 0.2) / width, (middle + 0.2) / width]
        sheet.figure.add_artist(Line2D(ends, [y, y], **_style(comparison, number)))


def _draw_details(sheet: _Sheet, comparison: Comparison) -> None:
    pictures = [result.picture for result in comparison.results] + [comparison.original]
    for number, (region, boxes) in enumerate(zip(comparison.regions, sheet.layout.crops)):
        name = region_name(number)
        captions = [_caption(result.details[number]) for result in comparison.results] + [f'dB / SSIM, {name}']
        for picture, box, caption in zip(pictures, boxes, captions):
            axes, _ = sheet.picture(box, region.of(picture), interpolation='nearest')
            if box is boxes[0]:
                axes.annotate(name, (0, 1), (3, -3), xycoords='axes fraction', textcoords='offset points', va='top',
                              **_tag())  # fmt: skip
            sheet.text(box.left + box.width / 2, box.bottom + 0.03, caption)


def _draw_errors(sheet: _Sheet, comparison: Comparison) -> None:
    limit = error_limit(comparison)
    for maps, boxes in zip(_errors(comparison), sheet.layout.maps):
        for error, box in zip(maps, boxes):
            _, image = sheet.picture(box, error, interpolation='nearest', cmap=MAP, vmin=0, vmax=limit)
        free = boxes[-1]  # the original has no error: the place of the scale
        scale = Box(free.left + 0.05, free.top + 0.04, 0.09, free.height - 0.08)
        bar = sheet.figure.colorbar(image, cax=sheet.axes(scale), extend='max')
        bar.outline.set_linewidth(0.5)
        bar.ax.tick_params(length=2, width=0.5, pad=1.5, labelsize=6)
        note = '|error|\nof Y (grey\nlevels)'
        sheet.text(scale.right + 0.27, scale.top + scale.height / 2, note, ha='left', va='center')


def _errors(comparison: Comparison) -> list[list[np.ndarray]]:
    """Absolute errors of Y, by region, then by result."""
    return [
        [
            np.abs(luma(region.of(result.picture)) - luma(region.of(comparison.original)))
            for result in comparison.results
        ]
        for region in comparison.regions
    ]


def _caption(scores: Scores) -> str:
    psnr = 'equal' if math.isinf(scores.psnr) else f'{scores.psnr:.2f}'
    return f'{psnr} / {scores.ssim:.4f}'
