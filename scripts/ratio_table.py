"""The table of what was measured alternately: medians, and ratios to what stands first."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from tabulate import tabulate


def ratio_table(what: str, seconds: Mapping[str, Sequence[float]], peak_bytes: Mapping[str, int] | None = None) -> str:
    """Returns time, and memory where it was measured, beside the first; ratios of time are medians over the rounds.

    Args:
        what: head of the first column.
        seconds: by name, one entry for each round.
        peak_bytes: by name.
    """
    base = next(iter(seconds))
    rows: list[list[object]] = []
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds[base])]
        spread = f'{min(ratios):.2f} to {max(ratios):.2f}'
        rows.append([name, statistics.median(times), statistics.median(ratios), spread])
        if peak_bytes is not None:
            rows[-1] += [peak_bytes[name] / 1e6, peak_bytes[name] / peak_bytes[base]]
    headers = [what, 'median s', 'ratio', 'range of ratios', *(('peak MB', 'memory ratio') if peak_bytes else ())]
    return tabulate(rows, headers, tablefmt='github', floatfmt=('', '.2f', '.2f', '', '.0f', '.2f'))
