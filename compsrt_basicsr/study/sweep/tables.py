"""The tables of a report: Markdown for reading, CSV with every number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from compsrt_basicsr.study.stats.paired import mean_bootstrap
from compsrt_basicsr.study.stats.seeds import mean_interval
from compsrt_basicsr.study.sweep.collect import Row
from compsrt_basicsr.study.sweep.paired_comparison import METRICS, Comparison, pooled
from compsrt_basicsr.study.sweep.published_comparison import published_cells

_DIGITS = {'psnr': 2, 'ssim': 4}
_UNIT = {'psnr': ' dB', 'ssim': ''}


def all_sets(rows: Iterable[Row]) -> list[str]:
    """Returns the test sets of some rows, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row.sets))


def results_table(rows: Sequence[Row], metric: str) -> str:
    """Returns bits and methods down, test sets across: mean ± half of the 95% interval over seeds [published]."""
    sets = all_sets(rows)
    lines = [[row.bits, _named(row), len(row.runs), *(_cell(row, metric, name) for name in sets)] for row in rows]
    return _markdown(lines, ['bits', 'method', 'seeds', *sets], 2)


def losses_table(rows: Sequence[Row]) -> str | None:
    """Returns the difference of each row to full precision; None without a row of full precision."""
    teacher = next((row for row in rows if row.is_teacher), None)
    if teacher is None:
        return None
    lines = []
    for row in rows:
        sets = [name for name in teacher.sets if name in row.sets]
        if row is teacher or not sets:
            continue
        each = [f'{_mean(row, name) - _mean(teacher, name):+.2f}' if name in sets else '–' for name in teacher.sets]
        mean, low, high = difference(row, teacher, sets)
        lines.append([row.bits, _named(row), *each, f'{mean:+.3f} ({low:+.3f} to {high:+.3f})'])
    return _markdown(lines, ['bits', 'method', *teacher.sets, 'all images (95% interval)'], 2) if lines else None


def levels_table(rows: Sequence[Row]) -> str:
    """Returns bits per weight, codes in use, iterations, execution and time."""
    lines = []
    for row in rows:
        if row.is_teacher:
            continue
        seconds = sum(sum(run['seconds'].values()) for run in row.runs) / len(row.runs)
        iterations = row.runs[0]['protocol']['iterations']
        executions = ', '.join(sorted({run['execution'] for run in row.runs}))
        counted = ['–' if value is None else f'{value:,}' for value in (row.levels_max, row.levels_over)]
        bits = f'{row.bits_per_parameter:g}'
        lines.append([row.bits, _named(row), bits, *counted, iterations, executions, f'{seconds:.0f}'])
    headers = [
        'bits', 'method', 'bits per weight', 'most levels', 'over 2^b', 'iterations', 'tested as', 'seconds a run'
    ]  # fmt: skip
    return _markdown(lines, headers, 2)


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Returns the paired tests over images, and beside them those over sets."""
    lines = []
    for c in comparisons:
        result, digits = c.images, 3 if c.metric == 'psnr' else 5
        interval = f'{result.mean:+.{digits}f} ({result.low:+.{digits}f} to {result.high:+.{digits}f})'
        over_seeds = f'{c.by_seed.low:+.{digits}f} to {c.by_seed.high:+.{digits}f}' if c.by_seed else '–'
        over_sets = '–'
        if c.by_set is not None:
            over_sets = f'{c.by_set.wilcoxon_p:.3g} (n = {c.by_set.n}, least {c.by_set.smallest_p:.3g})'
        lines.append(
            [
                f'x{c.reference.scale}', c.reference.bits, _named(c.other), result.n,
                _seeds(c), interval, over_seeds, f'{result.d_z:.2f}',
                _p(result.wilcoxon_p), _p(c.holm_p), _p(result.sign_p), over_sets,
            ]
        )  # fmt: skip
    headers = [
        'scale', 'bits', 'against', 'images', 'seeds',
        f'mean difference{_UNIT[comparisons[0].metric]} (95% interval over images)', '95% interval over seeds', 'd_z',
        'Wilcoxon p', 'Holm p', 'sign p', 'Wilcoxon p over sets',
    ]  # fmt: skip
    return _markdown(lines, headers, 3)


def results_csv(rows: Sequence[Row], group: int = 1) -> list[dict[str, Any]]:
    """Returns one line for each row, set and metric."""
    lines = []
    for row in rows:
        cells = published_cells(row)
        for dataset in row.sets:
            for metric in METRICS:
                interval = mean_interval(row.means(metric, dataset))
                published = cells.get(dataset)
                lines.append(
                    {
                        'protocol': group,
                        'scale': row.scale,
                        'bits': row.bits,
                        'method': row.name,
                        'dataset': dataset,
                        'metric': metric,
                        'seeds': interval.n,
                        'mean': interval.mean,
                        'std': interval.std,
                        'low': interval.low,
                        'high': interval.high,
                        'published': published and published.value(metric),
                        'published_source': published and published.cell.source,
                        'published_marks': published and published.marks,
                        'published_note': published and published.cell.note,
                        'bits_per_parameter': row.bits_per_parameter,
                        'levels_max': row.levels_max,
                        'levels_over': row.levels_over,
                        'iterations': row.runs[0]['protocol']['iterations'],
                    }
                )
    return lines


def comparisons_csv(comparisons: Sequence[Comparison], group: int = 1) -> list[dict[str, Any]]:
    """Returns one line for each comparison, the test over sets in columns of its own."""
    return [
        {
            'protocol': group,
            'scale': c.reference.scale,
            'bits': c.reference.bits,
            'reference': c.reference.name,
            'other': c.other.name,
            'metric': c.metric,
            'sets': ' '.join(c.sets),
            **vars(c.images),
            'holm_p': c.holm_p,
            'seeds': _seeds(c),
            'seeds_low': c.by_seed and c.by_seed.low,
            'seeds_high': c.by_seed and c.by_seed.high,
            'sets_wilcoxon_p': c.by_set and c.by_set.wilcoxon_p,
            'sets_smallest_p': c.by_set and c.by_set.smallest_p,
        }
        for c in comparisons
    ]


def to_csv(lines: Sequence[Mapping[str, Any]]) -> str:
    """Returns CSV text with a header; None is empty.

    Numbers have ten significant digits: the last ones of a bootstrap differ between processors.
    """
    stream = io.StringIO()
    if lines:
        writer = csv.DictWriter(stream, list(lines[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows({key: _rounded(value) for key, value in line.items()} for line in lines)
    return stream.getvalue()


def _rounded(value: Any) -> Any:
    return float(f'{value:.10g}') if isinstance(value, float) else value


def difference(row: Row, other: Row, sets: Sequence[str], metric: str = 'psnr') -> tuple[float, float, float]:
    """Returns the mean difference row - other over the images of some sets, with its 95% bootstrap interval."""
    values = pooled(row, metric, sets) - pooled(other, metric, sets)
    return float(values.mean()), *mean_bootstrap(values, 0.95, 10_000, 0)


def _seeds(comparison: Comparison) -> str:
    return '/'.join(map(str, dict.fromkeys(comparison.seeds)))


def _cell(row: Row, metric: str, dataset: str) -> str:
    if dataset not in row.sets:
        return '–'
    interval, digits = mean_interval(row.means(metric, dataset)), _DIGITS[metric]
    text = f'{interval.mean:.{digits}f}'
    if interval.high is not None:
        text += f' ± {interval.high - interval.mean:.{digits}f}'
    published = published_cells(row).get(dataset)
    return f'{text} {published.shown(metric)}' if published else text


def _mean(row: Row, dataset: str) -> float:
    return mean_interval(row.means('psnr', dataset)).mean


def _named(row: Row) -> str:
    """Returns the name, starred if codes exceed their bits."""
    return f'{row.name} \\*' if row.exceeds_bits else row.name


def _p(value: float | None) -> str:
    if value is None:
        return '–'
    return f'{value:.2g}' if value >= 1e-4 else f'{value:.0e}'


def _markdown(lines: Sequence[Sequence[Any]], headers: Sequence[str], left: int) -> str:
    align = ['left'] * left + ['right'] * (len(headers) - left)
    return tabulate(lines, headers, tablefmt='github', disable_numparse=True, colalign=align)
