"""What the figures show: range and gain across depth, typical distributions, mass near zero."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compsrt_basicsr.study.analysis.report.labels import kind_label, tensor_label, transform_label
from compsrt_basicsr.study.analysis.report.verdicts import HOLDS, USUAL_BITS, verdict
from compsrt_basicsr.study.analysis.tensors import Tensor, distinct, gain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Analysis = Mapping[str, Any]
# Colours of Okabe and Ito; dashes and markers tell lines apart in print without colour.
_LOOK = {
    'none': {'color': '#5b6470', 'linestyle': '-', 'marker': 'o'},
    'auto': {'color': '#0072B2', 'linestyle': '-', 'marker': 'o'},
    'padded': {'color': '#D55E00', 'linestyle': (0, (5, 1.5)), 'marker': 's'},
    'dct': {'color': '#009E73', 'linestyle': (0, (1.2, 1.2)), 'marker': '^'},
    'random': {'color': '#CC79A7', 'linestyle': (0, (5, 1.5, 1.2, 1.5)), 'marker': 'D'},
}


def look(transform: str) -> dict[str, Any]:
    """Colour, dashes and marker of a transform."""
    return _LOOK.get(transform, {'color': '#000000', 'linestyle': '-', 'marker': 'v'})


def usual_bits(analysis: Analysis) -> str:
    """The bit width of which the figures tell, as a key of `quant`."""
    found = [int(bits) for bits in distinct(analysis['tensors'])[0]['by_transform']['none']['quant']]
    return str(min(found, key=lambda bits: abs(bits - USUAL_BITS)))


def gain_of(tensor: Tensor, transform: str, bits: str) -> float:
    """By how many dB the SQNR of a tensor grows."""
    return gain(tensor['by_transform']['none'], tensor['by_transform'][transform], bits)


def range_by_depth(figure: Figure, analysis: Analysis, kinds: list[str]) -> None:
    """Each tensor's range before and after the first transform, and the median of each block."""
    panels = _rows(figure, kinds)
    transforms = analysis['transforms'][:2]
    for axes, kind in zip(panels, kinds):
        tensors = distinct(analysis['tensors'], kind)
        for side, transform in enumerate(transforms):
            _by_depth(axes, tensors, transform, lambda t, name: t['by_transform'][name]['range'], 0.3 * side - 0.15)
        _decades(axes, [entry['range'] for t in tensors for entry in t['by_transform'].values()])
        axes.set_ylabel('range (no unit)')
    _finish(figure, panels, kinds, 2)


def gain_by_depth(figure: Figure, analysis: Analysis, kinds: list[str]) -> None:
    """Each tensor's gain under the first transform, and the median of each block under all."""
    panels = _rows(figure, kinds)
    bits, transforms = usual_bits(analysis), analysis['transforms'][1:]
    for axes, kind in zip(panels, kinds):
        tensors = distinct(analysis['tensors'], kind)
        axes.axhline(0, color='#16191d', linewidth=0.6)
        for place, transform in enumerate(transforms):
            _by_depth(axes, tensors, transform, lambda t, name: gain_of(t, name, bits), 0.0, dots=place == 0)
        axes.set_ylabel('gain in SQNR (dB)')
    _finish(figure, panels, kinds, 2)


def typical(analysis: Analysis, kind: str) -> list[tuple[str, Tensor]]:
    """Tensors with the largest gain, the median one and the largest loss under the first transform."""
    transform, bits = analysis['transforms'][1], usual_bits(analysis)
    ordered = sorted(
        distinct(analysis['tensors'], kind), key=lambda tensor: gain_of(tensor, transform, bits), reverse=True
    )
    picks = [('largest gain', ordered[0]), ('median gain', ordered[len(ordered) // 2]), ('least gain', ordered[-1])]
    return [pick for place, pick in enumerate(picks) if pick[1] not in [t for _, t in picks[:place]]]


def distributions(figure: Figure, analysis: Analysis, kinds: list[str]) -> None:
    """Densities before and after the first transform, a column for each kind."""
    chosen = {kind: typical(analysis, kind) for kind in kinds}
    grid = figure.subplots(max(map(len, chosen.values())), len(kinds), squeeze=False)
    bits = usual_bits(analysis)
    transforms = analysis['transforms'][:2]
    for column, kind in enumerate(kinds):
        for row in range(len(grid)):
            axes = grid[row][column]
            if row >= len(chosen[kind]):
                axes.set_axis_off()
                continue
            pick, tensor = chosen[kind][row]
            for transform in transforms:
                _density(axes, tensor, transform)
            axes.set_yscale('log')
            change = f'{gain_of(tensor, transforms[1], bits):+.1f} dB'.replace('-', '−')
            axes.set_title(f'{tensor_label(tensor).removesuffix(" " + kind)}\n{pick}: {change}', loc='left')
            axes.locator_params(axis='x', nbins=4)
        grid[0][column].set_title(f'{kind_label(kind)}\n{grid[0][column].get_title(loc="left")}', loc='left')
        grid[len(chosen[kind]) - 1][column].set_xlabel('value (no unit)')
    figure.supylabel('density (share per unit)', fontsize=7)
    _legend(figure, grid[0][0], 2)


def near_zero(figure: Figure, analysis: Analysis, kinds: list[str]) -> None:
    """Change of the share within eps with its interval, absolute and relative eps side by side."""
    grid = figure.subplots(len(kinds), 2, squeeze=False, sharey='row')
    transforms = analysis['transforms'][1:]
    for row, kind in enumerate(kinds):
        for axes, measure, label in zip(
            grid[row], ('near_abs', 'near_rel'), ('ε (no unit)', 'ε (standard deviations)')
        ):
            axes.axhline(0, color='#16191d', linewidth=0.6)
            for place, transform in enumerate(transforms):
                wanted = (kind, measure, transform)
                tests = [t for t in analysis['tests'] if (t['kind'], t['measure'], t['transform']) == wanted]
                _sweep(axes, tests, transform, 1.07 ** (place - (len(transforms) - 1) / 2))
            axes.set_xscale('log')
            if row == len(kinds) - 1:
                axes.set_xlabel(label)
        grid[row][0].set_title(kind_label(kind), loc='left')
        grid[row][0].set_ylabel('change of share\n(percentage points)')
    _legend(figure, grid[0][0], 2)


def _sweep(axes: Axes, tests: Sequence[Mapping[str, Any]], transform: str, shift: float) -> None:
    """A line through the mean changes; filled markers where the claim holds."""
    style = look(transform)
    at = [test['at'] * shift for test in tests]
    means = [100 * test['mean'] for test in tests]
    axes.plot(at, means, color=style['color'], linestyle=style['linestyle'], label=transform_label(transform))
    for x, mean, test in zip(at, means, tests):
        axes.plot([x, x], [100 * test['low'], 100 * test['high']], color=style['color'], linewidth=0.8)
        face = style['color'] if verdict(test) is HOLDS else 'white'
        axes.plot([x], [mean], style['marker'], color=style['color'], markerfacecolor=face, markersize=3)


def _by_depth(
    axes: Axes,
    tensors: list[Tensor],
    transform: str,
    of: Callable[[Tensor, str], float],
    shift: float,
    dots: bool = True,
) -> None:
    """Medians of the blocks as a line; the tensors as dots beside it."""
    style = look(transform)
    depths = sorted({tensor['depth'] for tensor in tensors})
    values = {depth: [of(t, transform) for t in tensors if t['depth'] == depth] for depth in depths}
    if dots:
        points = [(depth + shift, value) for depth in depths for value in values[depth]]
        axes.plot(*zip(*points), '.', color=style['color'], markersize=3, alpha=0.5, markeredgewidth=0)
    medians = [statistics.median(values[depth]) for depth in depths]
    options = {'linestyle': style['linestyle'], 'color': style['color'], 'label': transform_label(transform)}
    axes.plot(depths, medians, marker=style['marker'] if len(depths) == 1 else None, **options)


def _density(axes: Axes, tensor: Tensor, transform: str) -> None:
    histogram, style = tensor['by_transform'][transform]['histogram'], look(transform)
    low, high = histogram['edges']
    counts = histogram['counts']
    width = (high - low) / len(counts)
    heights = [count / sum(counts) / width or float('nan') for count in counts]
    edges = [low + width * place for place in range(len(counts) + 1)]
    if transform == 'none':
        least = min(height for height in heights if height == height) / 2
        axes.stairs(
            heights,
            edges,
            baseline=least,
            fill=True,
            color=style['color'],
            alpha=0.35,
            label=transform_label(transform),
        )
    else:
        axes.stairs(heights, edges, color=style['color'], linewidth=0.9, label=transform_label(transform))


def _decades(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic scale whose ticks are plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    steps = (1, 2, 5) if max(values) < 100 * min(values) else (1,)
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _rows(figure: Figure, kinds: list[str]) -> list[Axes]:
    return list(figure.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0])


def _finish(figure: Figure, panels: list[Axes], kinds: list[str], columns: int) -> None:
    for axes, kind in zip(panels, kinds):
        axes.set_title(kind_label(kind), loc='left')
    panels[-1].set_xlabel('block, from the input')
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, panels[0], columns)


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside upper center', ncols=columns, frameon=False, handlelength=2.6)
