"""Figures of a report: PSNR against bits per weight, and the loss of each method."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.collect import Row
from compsrt_basicsr.study.sweep.paired_comparison import pooled
from compsrt_basicsr.study.sweep.tables import difference
from compsrt_basicsr.utils.atomic_write import atomic_path
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

# The colours of Okabe and Ito, which colour-blind readers can tell apart, and a marker for each.
_COLOURS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#D55E00', '#56B4E9', '#000000', '#999933')
_MARKERS = 'os^DvPX*'
# The files of a figure, with metadata that give the same bytes for the same rows.
_UNDATED: dict[str, dict[str, Any]] = {'.png': {}, '.svg': {'Date': None}}


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the points, from few bits to many, that no other point with at most their bits reaches in PSNR.

    Args:
        points: bits per weight and PSNR.
    """
    front: list[tuple[float, float]] = []
    for bits, psnr in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or psnr > front[-1][1]:
            front.append((bits, psnr))
    return front


def common_sets(rows: Sequence[Row]) -> list[str]:
    """Returns the sets that all rows have."""
    return [name for name in rows[0].sets if all(name in row.sets for row in rows)]


def draw_bits(rows: Sequence[Row], stem: Path) -> list[Path]:
    """Draws PSNR over all images against bits per weight, with the Pareto front of rows that keep to their bits.

    Args:
        rows: rows of one scale and protocol.
        stem: path of the `.png` and `.svg` without suffix.

    Returns:
        The files; none without a common set.
    """
    sets = common_sets(rows)
    methods = [row for row in rows if not row.is_teacher]
    if not sets or not methods:
        return []
    figure, (axes,) = _figure(5.0, 3.8)
    means = {id(row): float(pooled(row, 'psnr', sets).mean()) for row in rows}
    floor, top = lowest_shown(list(means.values())), max(means.values())
    kept, beyond = [], []
    for index, name in enumerate(dict.fromkeys(row.name for row in methods)):
        own = sorted((row for row in methods if row.name == name), key=lambda row: row.bits_per_parameter)
        points = [(row.bits_per_parameter, means[id(row)]) for row in own]
        kept += [point for row, point in zip(own, points) if not row.exceeds_bits]
        beyond += [(bits, f'{name} {psnr:.1f}') for bits, psnr in points if psnr < floor]
        hollow = any(row.exceeds_bits for row in own)
        colour = _COLOURS[index % len(_COLOURS)]
        axes.plot(
            *zip(*points),
            marker=_MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)],
            markerfacecolor='none' if hollow else colour,
            color=colour,
            linewidth=0.6,
            linestyle=':' if hollow else '-',
            markersize=5.5,
            label=f'{name} (codes exceed b bits)' if hollow else name,
        )
    if front := pareto(kept):
        axes.plot(*zip(*front), color='0.75', linewidth=5, zorder=0, label='Pareto front of b-bit results')
    axes.set_xticks(sorted({row.bits_per_parameter for row in methods}))
    for teacher in (row for row in rows if row.is_teacher):
        axes.axhline(means[id(teacher)], color='0.6', linestyle='--', label='full precision')
    if beyond:
        axes.set_ylim(floor, top + 0.05 * (top - floor))
    for bits in sorted({bits for bits, _ in beyond}):
        text = '\n'.join(f'{text} \N{DOWNWARDS ARROW}' for place, text in beyond if place == bits)
        axes.annotate(text, (bits, 0), (4, 3), axes.get_xaxis_transform(), 'offset points', fontsize=6)
    axes.set_xlabel('bits per weight')
    axes.set_ylabel(f'PSNR (dB), {", ".join(sets)}')
    axes.legend(fontsize=6, loc='best')
    return _save(figure, stem)


def lowest_shown(values: Sequence[float]) -> float:
    """Returns where an axis ends: values more than four times the median distance below the top are not shown.

    Args:
        values: such as the PSNR of each row.

    Returns:
        A number below all values that are shown; below all values if the median is the top.
    """
    top = max(values)
    reach = 4 * float(np.median([top - value for value in values]))
    shown = [value for value in values if value >= top - reach] if reach else values
    return min(shown) - 0.05 * (top - min(shown))


def draw_losses(rows: Sequence[Row], stem: Path, reference: str | None) -> list[Path]:
    """Draws bars of the PSNR difference to full precision, or else to the reference, with 95% intervals over images.

    Args:
        rows: rows of one scale and protocol, in the order of `rows_of`.
        stem: path of the `.png` and `.svg` without suffix.
        reference: name of the reference method.

    Returns:
        The files; none if there is nothing to compare with.
    """
    sets = common_sets(rows)
    teacher = next((row for row in rows if row.is_teacher), None)
    bars = []
    for row in rows:
        same_bits = (other for other in rows if other.name == reference and other.bits == row.bits)
        against = teacher or next(same_bits, None)
        if sets and against is not None and row is not against:
            bars.append((row, *difference(row, against, sets)))
    if not bars:
        return []
    groups = [list(group) for _, group in itertools.groupby(bars, lambda bar: bar[0].bits)]
    figure, panels = _figure(5.0, 0.6 + 0.24 * (len(bars) + len(groups)), [len(group) + 1 for group in groups])
    for axes, group, colour in zip(panels, groups, itertools.cycle(_COLOURS)):  # each bit width has a scale of its own
        for place, (row, mean, low, high) in enumerate(group):
            errors = [[max(mean - low, 0)], [max(high - mean, 0)]]
            hatch = '///' if row.exceeds_bits else None
            axes.barh(place, mean, xerr=errors, color=colour, hatch=hatch, edgecolor='white', ecolor='0.2')
        axes.set_yticks(range(len(group)), [f'{row.bits} bits, {row.name}' for row, *_ in group], fontsize=7)
        axes.set_ylim(len(group) - 0.4, -0.6)
        axes.locator_params(axis='x', nbins=6)  # labels beside long names have little room
        axes.axvline(0, color='0.3', linewidth=0.8)
    versus = 'full precision' if teacher else reference
    label = f'PSNR against {versus} (dB),\n95% interval over the images of {", ".join(sets)}'
    figure.supxlabel(label, fontsize=7)  # below the whole figure: long names leave the axes narrow
    return _save(figure, stem)


def _figure(width: float, height: float, panels: Sequence[int] = (1,)) -> tuple[Any, list[Any]]:
    """Returns a figure and its panels, one below the other, of these relative heights."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError('Figures need matplotlib: `pip install matplotlib`, or give --no-figures.') from error
    figure = Figure(figsize=(width, max(height, 1.6)), layout='constrained')
    every = figure.subplots(len(panels), squeeze=False, height_ratios=panels)[:, 0]
    for axes in every:
        axes.tick_params(labelsize=8)
        axes.grid(color='0.92')
        axes.set_axisbelow(True)
    return figure, list(every)


def _save(figure: Any, stem: Path) -> list[Path]:
    import matplotlib

    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(stem.name + suffix) for suffix in _UNDATED]
    for file in files:
        undated = _UNDATED[file.suffix]
        with atomic_path(file) as partial, matplotlib.rc_context({'svg.hashsalt': 'compsrt'}):
            figure.savefig(partial, format=file.suffix[1:], dpi=200, metadata=undated)
    return files
