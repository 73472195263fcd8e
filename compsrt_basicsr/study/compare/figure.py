"""The figure of a comparison, laid out by matplotlib."""

from __future__ import annotations

import io
import math
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.compare.report import ORIGINAL, region_name
from compsrt_basicsr.study.compare.results import TEACHER, Comparison, Scores, luma
from compsrt_basicsr.study.compare.sharpness import NYQUIST, ring_frequencies
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

SUFFIXES = ('.png', '.svg', '.pdf')
WIDTH, LEFT, NARROWEST = 7.2, 2.0, 1.0  # inches: the page, the whole image, the narrowest column of details
_LINE, _CAPTION, _HEADING = 0.13, 0.25, 0.5  # inches: a line of text, that under a detail, the heading of a column
_TALLEST, _CURVES, _AXES = 1.8, 1.0, 0.8  # inches: the whole image, the spectrum, text around them
_LETTERS = 14  # per inch
_FRAME = '#F0E442'
_COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')  # Okabe and Ito
_LINES = ('--', ':', '-.', '-')
_STYLE: Any = {
    'font.size': 6.5,
    'axes.titlesize': 7,
    'axes.titlepad': 3,
    'axes.labelpad': 2,
    'axes.linewidth': 0.5,
    'legend.frameon': False,
    'text.parse_math': False,  # labels may contain `$`
    'pdf.fonttype': 42,  # fonts that publishers accept
    'svg.hashsalt': 'compsrt',  # the same file for the same comparison
}


def check_figure_file(file: Path) -> None:
    """Checks, before any work, that a figure can be written under a name.

    Raises:
        CompSRTError: if it has another suffix, its folder is missing or read-only, or matplotlib is not installed.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise CompSRTError(f'`{file}` does not end in {", ".join(SUFFIXES)}: give the figure one of these suffixes.')
    if file.is_dir() or not file.parent.is_dir():
        raise CompSRTError(f'`{file}` is not a file in an existing folder: give another name.')
    try:
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise CompSRTError(f'`{file.parent}` cannot be written to ({error.strerror}): give another folder.') from error
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError('`compsrt compare` draws with matplotlib: `python -m pip install matplotlib`.') from error


def draw(comparison: Comparison, suffix: str, dpi: int) -> bytes:
    """Draws a comparison, see `make_figure`.

    Args:
        comparison: what to draw.
        suffix: one of `SUFFIXES`.
        dpi: pixels per inch of a PNG, and of the images in the other formats.

    Returns:
        The bytes of the file, the same for the same comparison.
    """
    import matplotlib

    undated = {'.png': {}, '.svg': {'Date': None}, '.pdf': {'CreationDate': None}}[suffix]
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        make_figure(comparison).savefig(buffer, format=suffix[1:], dpi=dpi, metadata=undated)
    return buffer.getvalue()


def make_figure(comparison: Comparison) -> Figure:
    """Builds the figure of a comparison, without the state of pyplot.

    The left part shows the whole image with its regions framed, and the radial power spectrum of each result relative
    to the original. The right part has a column for each result, and for each region the pixels (nearest neighbour) and
    the absolute error of Y on one scale.
    """
    import matplotlib
    from matplotlib.figure import Figure

    columns = len(comparison.results) + 1
    column = max((WIDTH - LEFT) / columns, NARROWEST)
    details = np.repeat([column * region.height / region.width for region in comparison.regions], 2)
    right_height = _HEADING + details.sum() + _CAPTION * len(comparison.regions)
    whole = min(LEFT * comparison.original.shape[0] / comparison.original.shape[1], _TALLEST)
    legend = [_wrap(result.label, LEFT - 0.6) for result in comparison.results]
    left_height = whole + _CURVES + _AXES + _LINE * sum(label.count('\n') + 1 for label in legend)
    height = max(left_height, right_height)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(LEFT + columns * column, height), layout='constrained')
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(LEFT, columns * column))[0]
        image, spectrum = _rows(left, 1, [whole, _CURVES], height - left_height)[:, 0]
        _draw_image(image, comparison)
        _draw_spectrum(spectrum, comparison, legend)
        cells = _rows(right, columns, details, height - right_height)
        _draw_details(cells[::2], comparison, column)
        _draw_errors(right, cells[1::2], comparison)
        figure.draw_without_rendering()  # the layout of the next drawing knows the ticks of this one
    return figure


def error_limit(comparison: Comparison) -> int:
    """Returns the end of the scale of the error maps, in grey levels of Y.

    It is the 99.5th percentile of the shown errors, rounded up to a multiple of 5, so that a few outliers do not darken
    the maps.
    """
    errors = [error.ravel() for maps in _errors(comparison) for error in maps]
    return max(5, 5 * math.ceil(np.percentile(np.concatenate(errors), 99.5) / 5))


def _errors(comparison: Comparison) -> list[list[np.ndarray]]:
    """Absolute errors of Y, by region, then by result."""
    return [
        [np.abs(luma(region.of(result.image)) - luma(region.of(comparison.original))) for result in comparison.results]
        for region in comparison.regions
    ]


def _rows(figure: SubFigure, columns: int, heights: Sequence[float] | np.ndarray, rest: float) -> np.ndarray:
    """Axes in rows of some heights, (rows, columns), with free space below."""
    grid = figure.add_gridspec(len(heights) + 1, columns, height_ratios=[*heights, max(rest, 0.01)])
    return np.array([[figure.add_subplot(grid[row, k]) for k in range(columns)] for row in range(len(heights))])


def _draw_image(axes: Axes, comparison: Comparison) -> None:
    from matplotlib.patches import Rectangle

    _show(axes, comparison.original)
    axes.set_title(f'{textwrap.shorten(comparison.name, 24, placeholder="…")}, ×{comparison.scale}', weight='bold')
    for number, region in enumerate(comparison.regions):
        place, size = (region.x - 0.5, region.y - 0.5), (region.width, region.height)
        for color, line in (('black', 2.0), (_FRAME, 1.0)):
            axes.add_patch(Rectangle(place, *size, fill=False, edgecolor=color, linewidth=line))
        _name_region(axes, number, (region.x, region.y))


def _name_region(axes: Axes, number: int, place: tuple[float, float]) -> None:
    """Writes the name of a region into its top left corner."""
    box = {'boxstyle': 'square,pad=0.15', 'facecolor': _FRAME, 'linewidth': 0.5}
    axes.annotate(region_name(number), place, va='top', weight='bold', size=5.5, bbox=box)


def _draw_spectrum(axes: Axes, comparison: Comparison, labels: list[str]) -> None:
    axes.axhline(0, color='#BBBBBB', linewidth=0.6)
    axes.axvline(comparison.cutoff, color='#BBBBBB', linewidth=0.6, linestyle='--')
    for number, (result, label) in enumerate(zip(comparison.results, labels)):
        decibels = _decibels(result.sharpness.spectrum, comparison.sharpness.spectrum)
        axes.plot(ring_frequencies(), decibels, label=label, **_look(comparison, number))
    axes.set(xlim=(0, NYQUIST), title=f'power spectrum relative to {ORIGINAL} (dB)')
    axes.set_xlabel('cycles per pixel (dashed: limit of LR)')
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(loc='upper center', bbox_to_anchor=(0.5, 0), borderaxespad=4, handlelength=3)  # below the label


def _decibels(spectrum: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Ten times the logarithm of the ratio; NaN, which is not drawn, where it is undefined."""
    valid = (spectrum > 0) & (reference > 0)
    return 10 * np.log10(np.divide(spectrum, reference, out=np.full(len(spectrum), np.nan), where=valid))


def _look(comparison: Comparison, number: int) -> dict[str, Any]:
    """Line of a result: grey for bicubic, black for the teacher, a colour for each model."""
    if number == 0:
        return {'color': '#888888', 'linewidth': 1.1}
    if comparison.results[number].role == TEACHER:
        return {'color': 'black', 'linewidth': 1.1}
    model = number - (2 if comparison.teacher else 1)
    return {'color': _COLORS[model % len(_COLORS)], 'linestyle': _LINES[model % len(_LINES)], 'linewidth': 1.3}


def _draw_details(cells: np.ndarray, comparison: Comparison, inches: float) -> None:
    images = [result.image for result in comparison.results] + [comparison.original]
    labels = [result.label for result in comparison.results] + [ORIGINAL]
    captions = [_caption(result.whole) for result in comparison.results] + ['dB / SSIM, image']
    for axes, label, caption in zip(cells[0], labels, captions):
        axes.set_title(f'{_wrap(label, inches)}\n{caption}')
    for number, (region, row) in enumerate(zip(comparison.regions, cells)):
        captions = [_caption(result.details[number]) for result in comparison.results]
        captions.append(f'dB / SSIM, {region_name(number)}')
        for axes, image, caption in zip(row, images, captions):
            _show(axes, region.of(image))
            axes.set_xlabel(caption)
        _name_region(row[0], number, (0, 0))


def _draw_errors(figure: SubFigure, cells: np.ndarray, comparison: Comparison) -> None:
    limit = error_limit(comparison)
    for maps, row in zip(_errors(comparison), cells):
        for axes, error in zip(row, maps):
            shown = _show(axes, error, cmap='magma', vmin=0, vmax=limit)
        row[-1].set_axis_off()  # the original has no error: the place of the scale
        bar = figure.colorbar(shown, cax=row[-1].inset_axes((0.1, 0.05, 0.1, 0.9)), extend='max')
        bar.set_label('|error| of Y\n(grey levels)')


def _wrap(label: str, inches: float) -> str:
    return '\n'.join(textwrap.wrap(label, int(inches * _LETTERS)))


def _show(axes: Axes, values: np.ndarray, **options: Any) -> Any:
    axes.set(xticks=[], yticks=[])
    return axes.imshow(values, interpolation='nearest', **options)


def _caption(scores: Scores) -> str:
    psnr = 'equal' if math.isinf(scores.psnr) else f'{scores.psnr:.2f}'
    return f'{psnr} / {scores.ssim:.4f}'
