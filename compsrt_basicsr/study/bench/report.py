"""A benchmark as tables, JSON and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.bench.timing import Measurement
from compsrt_basicsr.utils.atomic_write import atomic_path

Shares = Mapping[str, Mapping[str, float]]
_COLOURS = (
    '#0072B2',
    '#E69F00',
    '#009E73',
    '#CC79A7',
    '#56B4E9',
    '#D55E00',
    '#F0E442',
    '#999999',
    '#000000',
    '#AAAA55',
)


def timing_table(measurements: Sequence[Measurement]) -> str:
    """Latency, memory and speed of each case."""
    rows = [
        [
            m.case.device,
            str(m.case.threads),
            f'{m.case.size}×{m.case.size}',
            m.case.mode,
            f'{m.median:.3f}',
            f'{min(m.seconds):.3f} to {max(m.seconds):.3f}',
            f'{m.speed:.2f}',
            '–' if m.memory.run is None else f'{m.memory.run / 1e6:.0f}',
            f'{m.memory.process / 1e6:.0f}',
        ]
        for m in measurements
    ]
    reference = measurements[0].case.mode
    headers = [
        'device',
        'threads',
        'LR size',
        'mode',
        'median s',
        'range s',
        f'speed against {reference}',
        'run MB',
        'process MB',
    ]
    return tabulate(rows, headers, tablefmt='github', disable_numparse=True, colalign=('left', *['right'] * 8))


def shares_table(shares: Shares) -> str:
    """Share of the time by kind of layer, a column for each mode."""
    kinds = sorted({kind for of in shares.values() for kind in of}, key=lambda kind: (-_largest(shares, kind), kind))
    rows = [[kind, *(_share(of, kind) for of in shares.values())] for kind in kinds]
    rows.append(['in all (ms)', *(f'{1000 * sum(of.values()):.0f}' for of in shares.values())])
    colalign = ('left', *['right'] * len(shares))
    return tabulate(rows, ['', *shares], tablefmt='github', disable_numparse=True, colalign=colalign)


def _largest(shares: Shares, kind: str) -> float:
    return max(of.get(kind, 0.0) / sum(of.values()) for of in shares.values())


def _share(of: Mapping[str, float], kind: str) -> str:
    return f'{100 * of[kind] / sum(of.values()):.0f}%' if kind in of else '–'


def to_json(measurements: Sequence[Measurement], shares: Shares, about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, as plain data."""
    return {
        **about,
        'measurements': [m.to_json() for m in measurements],
        'shares': {k: dict(v) for k, v in shares.items()},
    }


def draw(measurements: Sequence[Measurement], shares: Shares, title: str, file: Path) -> None:
    """Draws latency by case, and where the time goes, side by side.

    Raises:
        CompSRTError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CompSRTError(
            'The picture needs matplotlib: `python -m pip install matplotlib`, or leave --png out.'
        ) from error
    figure = Figure(figsize=(10, 4), layout='constrained')
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    _draw_latency(left, measurements)
    _draw_shares(right, shares)
    with atomic_path(file) as partial:
        figure.savefig(partial, dpi=150, format='png')


def _draw_latency(axes: Any, measurements: Sequence[Measurement]) -> None:
    """Bars in seconds for each LR megapixel, which sizes have in common; above them the seconds."""
    groups = list(dict.fromkeys((m.case.size, m.case.threads, m.case.device) for m in measurements))
    modes = list(dict.fromkeys(m.case.mode for m in measurements))
    width = 0.8 / len(modes)
    for m in measurements:
        number = modes.index(m.case.mode)
        group = groups.index((m.case.size, m.case.threads, m.case.device))
        place = group + (number - (len(modes) - 1) / 2) * width
        low, middle, high = (seconds / (m.case.size**2 / 1e6) for seconds in (min(m.seconds), m.median, max(m.seconds)))
        label = m.case.mode if group == 0 else None
        spread = [[middle - low], [high - middle]]
        axes.bar(place, middle, width, yerr=spread, capsize=2, label=label, color=_COLOURS[number])
        text = f'{m.median:.2g} s'
        axes.annotate(text, (place, high), (0, 2), textcoords='offset points', ha='center', fontsize=7)
    labels = [f'{size}×{size}\n{device}, {threads} thread{"s"[: threads != 1]}' for size, threads, device in groups]
    axes.set_xticks(range(len(groups)), labels)
    axes.set_ylabel('seconds for an LR megapixel (median, range)')
    axes.set_xlabel('LR picture')
    axes.legend(frameon=False, fontsize=8)


def _draw_shares(axes: Any, shares: Shares) -> None:
    kinds = sorted({kind for of in shares.values() for kind in of}, key=lambda kind: (-_largest(shares, kind), kind))
    bottom = [0.0] * len(shares)
    for number, kind in enumerate(kinds):
        heights = [100 * of.get(kind, 0.0) / sum(of.values()) for of in shares.values()]
        axes.bar(list(shares), heights, bottom=bottom, label=kind, color=_COLOURS[number % len(_COLOURS)])
        bottom = [below + height for below, height in zip(bottom, heights)]
    axes.set_ylabel('share of the time (%)')
    axes.legend(frameon=False, fontsize=7, loc='center left', bbox_to_anchor=(1, 0.5))
