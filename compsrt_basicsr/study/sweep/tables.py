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
from compsrt_basicsr.study.sweep.paired_comparison import METRICS, Contest, pooled
from compsrt_basicsr.study.sweep.published_comparison import published_beside

_DIGITS = {'psnr': 2, 'ssim': 4}
_UNIT = {'psnr': ' dB', 'ssim': ''}


def all_sets(rows: Iterable[Row]) -> list[str]:
    """The test sets of some rows, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row.sets))


def results_table(rows: Sequence[Row], metric: str) -> str:
    """Bits and methods down, test sets across: mean ± half of the 95% interval over seeds [published]."""
    sets = all_sets(rows)
    lines = [[row.bits, _named(row), len(row.runs), *(_cell(row, metric, name) for name in sets)] for row in rows]
    return _markdown(lines, ['bits', 'method', 'seeds', *sets], 2)


def losses_table(rows: Sequence[Row]) -> str | None:
    """What each row loses against full precision, over all pictures; None without a full-precision row."""
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
    return _markdown(lines, ['bits', 'method', *teacher.sets, 'all pictures (95% interval)'], 2) if lines else None


def levels_table(rows: Sequence[Row]) -> str:
    """Codes used, bits per parameter, execution and time."""
    lines = []
    for row in rows:
        if row.is_teacher:
            continue
        most, over = row.levels('levels_max'), row.levels('levels_over')
        seconds = sum(sum(run['seconds'].values()) for run in row.runs) / len(row.runs)
        iterations = row.runs[0]['protocol']['iterations']
        executions = ', '.join(sorted({run['execution'] for run in row.runs}))
        counted = ['–' if value is None else f'{value:,}' for value in (most, over)]
        lines.append([row.bits, _named(row), f'{row.bits_per_parameter:g}', *counted, iterations, executions, seconds])
    lines = [[*line[:-1], f'{line[-1]:.0f}'] for line in lines]
    headers = [
        'bits',
        'method',
        'bits per weight',
        'most levels',
        'over 2^b',
        'iterations',
        'tested as',
        'seconds a run',
    ]
    return _markdown(lines, headers, 2)


def contest_table(found: Sequence[Contest]) -> str:
    """Paired tests over pictures, and beside them those over sets."""
    lines = []
    for contest in found:
        result, digits = contest.pictures, 3 if contest.metric == 'psnr' else 5
        interval = f'{result.mean:+.{digits}f} ({result.low:+.{digits}f} to {result.high:+.{digits}f})'
        over_sets = '–'
        if contest.by_set is not None:
            over_sets = (
                f'{contest.by_set.wilcoxon_p:.3g} (n = {contest.by_set.n}, least {contest.by_set.smallest_p:.3g})'
            )
        seeds = '/'.join(map(str, dict.fromkeys(contest.seeds)))
        lines.append(
            [
                f'x{contest.reference.scale}', contest.reference.bits, _named(contest.other), result.n, seeds, interval,
                f'{result.d_z:.2f}', _p(result.wilcoxon_p), _p(contest.holm_p), _p(result.sign_p), over_sets,
            ]
        )  # fmt: skip
    unit = _UNIT[found[0].metric]
    headers = [
        'scale', 'bits', 'against', 'pictures', 'seeds', f'mean difference{unit} (95% interval)', 'd_z', 'Wilcoxon p',
        'Holm p', 'sign p', 'Wilcoxon p over sets',
    ]  # fmt: skip
    return _markdown(lines, headers, 3)


def results_csv(rows: Sequence[Row], group: int = 1) -> list[dict[str, Any]]:
    """One line a row, set and metric."""
    lines = []
    for row in rows:
        beside = published_beside(row)
        for dataset in row.sets:
            for metric in METRICS:
                interval = mean_interval(row.means(metric, dataset))
                published = beside.get(dataset)
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
                        'levels_max': row.levels('levels_max'),
                        'levels_over': row.levels('levels_over'),
                        'iterations': row.runs[0]['protocol']['iterations'],
                    }
                )
    return lines


def contests_csv(found: Sequence[Contest], group: int = 1) -> list[dict[str, Any]]:
    """One line a contest, the test over sets in columns of its own."""
    return [
        {
            'protocol': group,
            'scale': contest.reference.scale,
            'bits': contest.reference.bits,
            'reference': contest.reference.name,
            'other': contest.other.name,
            'metric': contest.metric,
            'sets': ' '.join(contest.sets),
            **vars(contest.pictures),
            'holm_p': contest.holm_p,
            'sets_wilcoxon_p': contest.by_set and contest.by_set.wilcoxon_p,
            'sets_smallest_p': contest.by_set and contest.by_set.smallest_p,
        }
        for contest in found
    ]


def to_csv(lines: Sequence[Mapping[str, Any]]) -> str:
    """CSV text with a header; empty where a value is None."""
    stream = io.StringIO()
    if lines:
        writer = csv.DictWriter(stream, list(lines[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(lines)
    return stream.getvalue()


def difference(row: Row, other: Row, sets: Sequence[str], metric: str = 'psnr') -> tuple[float, float, float]:
    """Mean difference row - other over the pictures of some sets, with its 95% bootstrap interval."""
    values = pooled(row, metric, sets) - pooled(other, metric, sets)
    return float(values.mean()), *mean_bootstrap(values, 0.95, 10_000, 0)


def _cell(row: Row, metric: str, dataset: str) -> str:
    if dataset not in row.sets:
        return '–'
    interval, digits = mean_interval(row.means(metric, dataset)), _DIGITS[metric]
    text = f'{interval.mean:.{digits}f}'
    if interval.high is not None:
        text += f' ± {interval.high - interval.mean:.{digits}f}'
    beside = published_beside(row).get(dataset)
    return f'{text} {beside.shown(metric)}' if beside else text


def _mean(row: Row, dataset: str) -> float:
    return mean_interval(row.means('psnr', dataset)).mean


def _named(row: Row) -> str:
    """The name, starred where the codes leave their bits."""
    return f'{row.name} \\*' if row.exceeds else row.name


def _p(value: float) -> str:
    return f'{value:.2g}' if value >= 1e-4 else f'{value:.0e}'


def _markdown(lines: Sequence[Sequence[Any]], headers: Sequence[str], left: int) -> str:
    align = ['left'] * left + ['right'] * (len(headers) - left)
    return tabulate(lines, headers, tablefmt='github', disable_numparse=True, colalign=align)
