"""Figures of an analysis, as PNG and SVG."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compsrt_basicsr.study.analysis.tables import BITS, supported
from compsrt_basicsr.study.analysis.tensors import Tensor, distinct, gain
from compsrt_basicsr.utils.atomic_write import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Analysis = Mapping[str, Any]
WIDTH = 7.0  # inches
DPI = 200  # of the PNG
CAPTIONS = {
    'distributions': 'Densities with and without the first transform, for the tensors of largest, median and smallest '
    'gain.',
    'range_by_depth': 'Range of each tensor with and without the first transform (dots), and the median of each block '
    '(lines).',
    'gain_by_depth': 'Gain of each tensor by the first transform (dots), and the median of each block by every '
    'transform (lines). The transform helps above zero.',
    'gain_by_range': 'Gain of each tensor against how much the transform narrows its range.',
    'near_zero': 'Change of the share of values within ±ε, mean over the tensors with its 95% interval. Filled markers '
    'support the claim of more mass near zero.',
}
_STYLE: Any = {
    'font.size': 8,
    'axes.titlesize': 8,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'lines.linewidth': 1.2,
    'legend.frameon': False,
    'svg.hashsalt': 'compsrt',  # the same file for the same analysis
}
# Colour (Okabe and Ito), dashes and marker: lines can be told apart without colour.
_LOOK: dict[str, tuple[str, Any, str]] = {
    'none': ('#5b6470', '-', 'o'),
    'auto': ('#0072B2', '-', 'o'),
    'padded': ('#D55E00', '--', 's'),
    'dct': ('#009E73', ':', '^'),
    'random': ('#CC79A7', '-.', 'D'),
}


def write_figures(analysis: Analysis, folder: Path) -> list[Path]:
    """Draws every figure that the analysis has numbers for.

    Args:
        analysis: the content of analysis.json.
        folder: created if it is missing.

    Returns:
        The files; none if no tensor or no transform was analysed.

    Raises:
        OSError: if a file could not be written.
    """
    if not distinct(analysis['tensors']) or len(analysis['transforms']) < 2:
        return []
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(_STYLE):
        for name, draw in _FIGURES.items():
            if name == 'near_zero' and not analysis['tests']:
                continue
            figure = draw(analysis)
            for suffix, metadata in (('png', {}), ('svg', {'Date': None})):
                file = folder / f'{name}.{suffix}'
                with atomic_path(file) as partial:
                    figure.savefig(partial, format=suffix, dpi=DPI, metadata=metadata)
                written.append(file)
    return written


def _range_by_depth(analysis: Analysis) -> Figure:
    figure, panels = _panels(analysis, 'range')
    for axes, tensors in panels:
        for shift, transform in zip((-0.15, 0.15), analysis['transforms']):
            _by_depth(axes, tensors, transform, lambda t, name: t['by_transform'][name]['range'], shift)
        _log_scale(axes, 'y')
    return _with_legend(figure, panels)


def _gain_by_depth(analysis: Analysis) -> Figure:
    figure, panels = _panels(analysis, f'gain in SQNR at {BITS} bits (dB)')
    for axes, tensors in panels:
        axes.axhline(0, color='black', linewidth=0.6)
        for place, transform in enumerate(analysis['transforms'][1:]):
            _by_depth(axes, tensors, transform, _gain, None if place else 0.0)
    return _with_legend(figure, panels)


def _gain_by_range(analysis: Analysis) -> Figure:
    figure, panels = _panels(analysis, f'gain in SQNR at {BITS} bits (dB)', 'log2 of range before / after')
    for axes, tensors in panels:
        axes.axhline(0, color='black', linewidth=0.6)
        axes.axvline(0, color='black', linewidth=0.6)
        for transform in analysis['transforms'][1:]:
            color, _, marker = _LOOK[transform]
            narrower = [
                math.log2(t['by_transform']['none']['range'] / t['by_transform'][transform]['range']) for t in tensors
            ]
            gains = [_gain(t, transform) for t in tensors]
            axes.plot(narrower, gains, marker, color=color, markersize=3, alpha=0.6, mew=0, label=transform)
    return _with_legend(figure, panels)


def _near_zero(analysis: Analysis) -> Figure:
    figure = _figure(2.6 * len(_kinds(analysis)))
    grid = figure.subplots(len(_kinds(analysis)), 2, squeeze=False, sharey='row')
    for row, kind in zip(grid, _kinds(analysis)):
        for axes, measure, unit in zip(row, ('near_abs', 'near_rel'), ('', ' (standard deviations)')):
            axes.axhline(0, color='black', linewidth=0.6)
            for place, transform in enumerate(analysis['transforms'][1:]):
                wanted = (kind, measure, transform)
                tests = [t for t in analysis['tests'] if (t['kind'], t['measure'], t['transform']) == wanted]
                _sweep(axes, tests, transform, 1.07**place)
            _log_scale(axes, 'x')
            axes.set_xlabel(f'ε{unit}')
        row[0].set_title(f'{kind}s', loc='left')
        row[0].set_ylabel('change of share within ±ε\n(percentage points)')
    return _with_legend(figure, [(grid[0][0], [])])


def _distributions(analysis: Analysis) -> Figure:
    first = analysis['transforms'][1]
    kinds = _kinds(analysis)
    figure = _figure(2.1 * len(kinds))
    grid = figure.subplots(len(kinds), 3, squeeze=False)
    for row, kind in zip(grid, kinds):
        for axes, (pick, tensor) in zip(row, typical(analysis, kind).items()):
            for transform in analysis['transforms'][:2]:
                _density(axes, tensor, transform)
            _log_scale(axes, 'y')
            axes.set_title(f'block {tensor["depth"]}, {tensor["role"]}\n{pick}: {_gain(tensor, first):+.1f} dB')
            axes.locator_params(axis='x', nbins=4)
        row[0].set_ylabel(f'density of {kind}s')
    figure.supxlabel('value', fontsize=8)
    return _with_legend(figure, [(grid[0][0], [])])


_FIGURES: dict[str, Callable[[Analysis], Figure]] = {
    'distributions': _distributions,
    'range_by_depth': _range_by_depth,
    'gain_by_depth': _gain_by_depth,
    'gain_by_range': _gain_by_range,
    'near_zero': _near_zero,
}


def typical(analysis: Analysis, kind: str) -> dict[str, Tensor]:
    """The tensors of a kind with the largest, the median and the smallest gain by the first transform."""
    transform = analysis['transforms'][1]
    ordered = sorted(distinct(analysis['tensors'], kind), key=lambda tensor: _gain(tensor, transform), reverse=True)
    return {
        'largest gain': ordered[0],
        'median gain': ordered[len(ordered) // 2],
        'smallest gain': ordered[-1],
    }


def _kinds(analysis: Analysis) -> list[str]:
    return sorted({tensor['kind'] for tensor in distinct(analysis['tensors'])}, reverse=True)


def _gain(tensor: Tensor, transform: str) -> float:
    return gain(tensor['by_transform']['none'], tensor['by_transform'][transform], BITS)


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout='constrained')


def _panels(
    analysis: Analysis, ylabel: str, xlabel: str = 'block'
) -> tuple[Figure, list[tuple[Axes, Sequence[Tensor]]]]:
    """A figure with a panel for each kind, and the tensors of each."""
    figure = _figure(3.0)
    kinds = _kinds(analysis)
    axes = figure.subplots(1, len(kinds), squeeze=False)[0]
    for one, kind in zip(axes, kinds):
        one.set_title(f'{kind}s', loc='left')
        one.set_xlabel(xlabel)
    axes[0].set_ylabel(ylabel)
    return figure, [(one, distinct(analysis['tensors'], kind)) for one, kind in zip(axes, kinds)]


def _with_legend(figure: Figure, panels: Sequence[tuple[Axes, Sequence[Tensor]]]) -> Figure:
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside upper center', ncols=len(labels))
    return figure


def _by_depth(
    axes: Axes,
    tensors: Sequence[Tensor],
    transform: str,
    value: Callable[[Tensor, str], float],
    shift: float | None,
) -> None:
    """A line through the medians of the blocks; the tensors as dots, `shift` blocks beside it, unless that is None."""
    color, line, marker = _LOOK[transform]
    values: dict[int, list[float]] = {}
    for tensor in tensors:
        values.setdefault(tensor['depth'], []).append(value(tensor, transform))
    if shift is not None:
        dots = [(depth + shift, one) for depth, some in values.items() for one in some]
        axes.plot(*zip(*dots), '.', color=color, markersize=3, alpha=0.5, mew=0)
    axes.locator_params(axis='x', integer=True)
    medians = [statistics.median(some) for some in values.values()]
    only = marker if len(values) == 1 else None
    axes.plot(list(values), medians, linestyle=line, color=color, marker=only, label=transform)


def _sweep(axes: Axes, tests: Sequence[Mapping[str, Any]], transform: str, shift: float) -> None:
    """Mean changes with their intervals; markers are filled where the claim is supported."""
    color, line, marker = _LOOK[transform]
    at = [test['at'] * shift for test in tests]
    means = [100 * test['mean'] for test in tests]
    below = [100 * (test['mean'] - test['low']) for test in tests]
    above = [100 * (test['high'] - test['mean']) for test in tests]
    look = {'color': color, 'linestyle': line, 'elinewidth': 0.8, 'label': transform}
    axes.errorbar(at, means, [below, above], marker=marker, markerfacecolor='white', markersize=4, **look)
    filled = [number for number, test in enumerate(tests) if supported(test)]
    axes.plot([at[k] for k in filled], [means[k] for k in filled], marker, color=color, markersize=4, zorder=3)


def _log_scale(axes: Axes, name: str) -> None:
    """Makes the axis 'x' or 'y' logarithmic, with plain numbers at its ticks."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set(**{f'{name}scale': 'log'})
    axis = axes.xaxis if name == 'x' else axes.yaxis
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
    axis.set_major_formatter('{x:g}')
    axis.set_minor_formatter(NullFormatter())


def _density(axes: Axes, tensor: Tensor, transform: str) -> None:
    import numpy as np

    histogram, color = tensor['by_transform'][transform]['histogram'], _LOOK[transform][0]
    low, high = histogram['edges']
    edges = np.linspace(low, high, len(histogram['counts']) + 1)
    counts = np.array(histogram['counts'], float)
    heights = np.where(counts > 0, counts / counts.sum() / (edges[1] - edges[0]), np.nan)
    if transform == 'none':
        axes.stairs(heights, edges, baseline=np.nanmin(heights) / 2, fill=True, color=color, alpha=0.35, label='none')
    else:
        axes.stairs(heights, edges, color=color, linewidth=0.9, label=transform)
