"""Figures for papers, a column wide, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.analysis.report import panels
from compsrt_basicsr.study.analysis.report.words import kinds
from compsrt_basicsr.utils.atomic_write import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 3.3  # inches, a column of two
DOTS = 300  # of the PNG to the inch
_STYLE = {
    'font.family': ['sans-serif'],
    'font.size': 7,
    'axes.titlesize': 7.5,
    'axes.labelsize': 7,
    'xtick.labelsize': 7,
    'ytick.labelsize': 7,
    'legend.fontsize': 7,
    'axes.linewidth': 0.6,
    'lines.linewidth': 1.1,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.unicode_minus': True,
    'text.usetex': False,
    'svg.fonttype': 'path',
    'svg.hashsalt': 'compsrt',
}
_Draw = Callable[['Figure', Mapping[str, Any], list[str]], None]


class NoMatplotlibError(CompSRTError):
    """Figures were asked for, and matplotlib is not installed."""


def write_figures(analysis: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws every figure for which the analysis has numbers; each file is written whole or not at all.

    Args:
        analysis: what analysis.json holds.
        folder: made where it is missing.

    Returns:
        The files; none where nothing was analysed or compared.

    Raises:
        NoMatplotlibError: matplotlib is not installed.
        OSError: a file could not be written.
    """
    found = kinds(analysis)
    if not found or len(analysis['transforms']) < 2:
        return []
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NoMatplotlibError(
            'There are no figures, because matplotlib is not installed: `python -m pip install matplotlib` and run '
            'this again.'
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(_STYLE):
        for name, (draw, height) in _FIGURES.items():
            if name == 'near_zero' and not analysis['tests']:
                continue
            figure = Figure(figsize=(WIDTH, height(len(found))), layout='constrained')
            draw(figure, analysis, found)
            written += _save(figure, folder / name)
    return written


def _save(figure: Figure, stem: Path) -> list[Path]:
    written = []
    for ending, options in (('png', {'dpi': DOTS}), ('svg', {'metadata': {'Date': None}})):
        target = stem.with_name(f'{stem.name}.{ending}')
        with atomic_path(target) as partial:
            figure.savefig(partial, format=ending, **options)
        written.append(target)
    return written


_FIGURES: dict[str, tuple[_Draw, Callable[[int], float]]] = {
    'range_by_depth': (panels.range_by_depth, lambda rows: 0.55 + 1.45 * rows),
    'gain_by_depth': (panels.gain_by_depth, lambda rows: 0.7 + 1.45 * rows),
    'distributions': (panels.distributions, lambda rows: 4.4),
    'near_zero': (panels.near_zero, lambda rows: 0.85 + 1.45 * rows),
}
