"""Tables, JSON and figure of a benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.bench.rivals import RIVALS
from compsrt_basicsr.study.bench.timing import Measurement
from compsrt_basicsr.utils.atomic_write import atomic_path
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory
from compsrt_basicsr.utils.text import counted

Profiles = Mapping[str, Mapping[str, float]]  # seconds by kind of layer, by mode
_COLORS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9', '#D55E00', '#F0E442', '#999999', '#000000', '#AAAA55')


def timing_table(measurements: Sequence[Measurement]) -> str:
    """Latency, memory and speed of each case, as Markdown."""
    rows = [
        [
            m.case.device,
            str(m.case.threads),
            f'{m.case.size}×{m.case.size}',
            m.case.mode,
            f'{m.median:.3f}',
            f'{min(m.seconds):.3f} to {max(m.seconds):.3f}',
            f'{m.speed:.2f}',
            f'{m.rate / 1e9:.0f}',
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
        f'speed / {reference}',
        'GMAC/s',
        'run MB',
        'process MB',
    ]
    return tabulate(rows, headers, tablefmt='github', disable_numparse=True, colalign=('left', *['right'] * 9))


def lead_lines(measurements: Sequence[Measurement]) -> list[str]:
    """Says how fast the fastest mode of the model is against the best rival, for each size, threads and device."""
    lines = []
    groups = dict.fromkeys((m.case.device, m.case.threads, m.case.size) for m in measurements)
    for group in groups:
        cases = [m for m in measurements if (m.case.device, m.case.threads, m.case.size) == group]
        rivals, own = ([m for m in cases if (m.case.mode in RIVALS) == is_rival] for is_rival in (True, False))
        if rivals and own:
            best, ours = (min(of, key=lambda m: m.median) for of in (rivals, own))
            ratio = statistics.median(b / t for b, t in zip(best.seconds, ours.seconds))
            device, threads, size = group
            lines.append(
                f'{device}, {counted(threads, "thread")}, {size}×{size}: `{ours.case.mode}` takes '
                f'{1 / ratio:.2f} of the time of `{best.case.mode}`, the fastest rival.'
            )
    return lines


def peak_line(peak: Mapping[str, Any]) -> str:
    """Says how fast a processor multiplies with `threads`: `float32` and `codes`, a second; codes may be None."""
    of_codes = '' if peak['codes'] is None else f', and {peak["codes"] / 1e9:.0f} on codes in registers'
    threads = counted(peak['threads'], 'thread')
    return f'The processor reaches {peak["float32"] / 1e9:.0f} GMAC/s in float32{of_codes}, with {threads}.'


def profile_table(profiles: Profiles) -> str:
    """Share of the time by kind of layer, a column for each mode, as Markdown."""
    rows = [[kind, *(_share(of, kind) for of in profiles.values())] for kind in _kinds(profiles)]
    rows.append(['total (ms)', *(f'{1000 * sum(of.values()):.0f}' for of in profiles.values())])
    colalign = ('left', *['right'] * len(profiles))
    return tabulate(rows, ['', *profiles], tablefmt='github', disable_numparse=True, colalign=colalign)


def _kinds(profiles: Profiles) -> list[str]:
    """All kinds of layers, by their largest share in any mode."""

    def largest(kind: str) -> float:
        return max(of.get(kind, 0.0) / sum(of.values()) for of in profiles.values())

    return sorted({kind for of in profiles.values() for kind in of}, key=lambda kind: (-largest(kind), kind))


def _share(of: Mapping[str, float], kind: str) -> str:
    return f'{100 * of[kind] / sum(of.values()):.0f}%' if kind in of else '–'


def to_json(measurements: Sequence[Measurement], profiles: Profiles, about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all numbers as plain data."""
    return {
        **about,
        'measurements': [m.to_json() for m in measurements],
        'profile': {k: dict(v) for k, v in profiles.items()},
    }


def draw(measurements: Sequence[Measurement], profiles: Profiles, title: str, file: Path) -> None:
    """Draws the latency of each case beside the profiles.

    Args:
        measurements: the cases.
        profiles: seconds by kind of layer, by mode.
        title: title of the figure.
        file: the PNG.

    Raises:
        CompSRTError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError(
            'The figure needs matplotlib: `python -m pip install matplotlib`, or leave --png out.'
        ) from error
    figure = Figure(figsize=(10, 4), layout='constrained')
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    _draw_latency(left, measurements)
    _draw_profiles(right, profiles)
    with atomic_path(file) as temporary:
        figure.savefig(temporary, dpi=150, format='png')


def _draw_latency(axes: Any, measurements: Sequence[Measurement]) -> None:
    """Bars in seconds per LR megapixel, comparable between sizes, with the seconds above them."""
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
        axes.bar(place, middle, width, yerr=spread, capsize=2, label=label, color=_COLORS[number])
        text = f'{m.median:.2g} s'
        axes.annotate(text, (place, high), (0, 2), textcoords='offset points', ha='center', fontsize=7)
    labels = [f'{size}×{size}\n{device}, {counted(threads, "thread")}' for size, threads, device in groups]
    axes.set_xticks(range(len(groups)), labels)
    axes.set_ylabel('seconds per LR megapixel (median, range)')
    axes.set_xlabel('LR image')
    axes.legend(frameon=False, fontsize=8)


def _draw_profiles(axes: Any, profiles: Profiles) -> None:
    bottom = [0.0] * len(profiles)
    for number, kind in enumerate(_kinds(profiles)):
        heights = [100 * of.get(kind, 0.0) / sum(of.values()) for of in profiles.values()]
        axes.bar(list(profiles), heights, bottom=bottom, label=kind, color=_COLORS[number % len(_COLORS)])
        bottom = [below + height for below, height in zip(bottom, heights)]
    axes.set_ylabel('share of the time (%)')
    axes.legend(frameon=False, fontsize=7, loc='center left', bbox_to_anchor=(1, 0.5))
