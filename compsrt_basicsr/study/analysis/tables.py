"""Tables of an analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from tabulate import tabulate

from compsrt_basicsr.study.analysis.tensors import distinct, gain

Analysis = Mapping[str, Any]
LEVEL = 0.05  # of p-values after Holm's adjustment
PUBLISHED_EPS, MIDDLE_EPS, BITS = 0.05, 0.5, 4  # where sweeps are summarised


def leading_tests(analysis: Analysis) -> dict[str, tuple[str, float | None]]:
    """The claims that a summary leads with: a short name for each, its measure, and where that was taken."""
    return {
        'narrower': ('range', None),
        f'more within ±{PUBLISHED_EPS:g}': ('near_abs', PUBLISHED_EPS),
        'more normal (W)': ('shapiro', analysis['settings']['sample']),
        f'higher SQNR at {BITS} bits': ('sqnr', BITS),
    }


def supported(test: Mapping[str, Any]) -> bool:
    """Whether a test supports its claim: the adjusted p is at most `LEVEL`, and the mean changes as claimed."""
    return test['holm_p'] <= LEVEL and test['mean'] > 0


def claims_table(analysis: Analysis) -> str:
    """Share of the tensors for which each leading claim holds, with the adjusted p, for the terminal."""
    leading = leading_tests(analysis)
    found: dict[tuple[str, str], dict[tuple[str, Any], Mapping[str, Any]]] = {}
    for test in analysis['tests']:
        found.setdefault((test['kind'], test['transform']), {})[test['measure'], test['at']] = test
    rows = [
        [
            f'{kind} ({max(test["n"] for test in tests.values())})',
            transform,
            *(f'{_percent(tests[key]["share"])}, p {_p(tests[key]["holm_p"])}' for key in leading.values()),
        ]
        for (kind, transform), tests in found.items()
    ]
    align = ('left', 'left', *['right'] * len(leading))
    return tabulate(rows, ['tensors', 'transform', *leading], disable_numparse=True, colalign=align)


def gains_table(analysis: Analysis, tablefmt: str = 'simple') -> str:
    """Mean gain in SQNR at `BITS` bits by kind, role and transform, in dB; identical tensors count once."""
    transforms = analysis['transforms'][1:]
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for tensor in distinct(analysis['tensors']):
        groups.setdefault((tensor['kind'], tensor['role']), []).append(tensor['by_transform'])

    def mean_gain(entries: Sequence[Mapping[str, Any]], transform: str) -> float:
        return fmean(gain(entry['none'], entry[transform], BITS) for entry in entries)

    rows = [
        [kind, role, str(len(entries)), *(f'{mean_gain(entries, transform):+.2f}' for transform in transforms)]
        for (kind, role), entries in sorted(groups.items(), reverse=True)
    ]
    return _table(rows, ['dB gained at 4 bits', 'role', 'tensors', *transforms], 2, tablefmt)


def outcomes_table(analysis: Analysis, leading: bool = False) -> str:
    """A row for each test: effect, interval, p, adjusted p, and whether the claim is supported; Markdown.

    Args:
        analysis: the content of analysis.json.
        leading: only the tests of `leading_tests`.
    """
    wanted = leading_tests(analysis).values()
    tests = [test for test in analysis['tests'] if not leading or (test['measure'], test['at']) in wanted]
    rows = [
        [
            test['kind'],
            test['transform'],
            _at(test['measure'], test['at']),
            'grows' if test['alternative'] == 'greater' else 'falls',
            'yes' if supported(test) else 'no',
            str(test['n']),
            _percent(test['share']),
            _interval(test['mean'], test['low'], test['high']),
            _number(test['d_z']),
            _p(test['wilcoxon_p']),
            _p(test['holm_p']),
            _p(test['holm_sign_p']),
        ]
        for test in sorted(tests, key=lambda test: test['kind'], reverse=True)
    ]
    headers = ['tensors', 'transform', 'measure', 'claim', 'supported', 'n', 'change as claimed', 'mean change [95%]',
               'd_z', 'p', 'p (Holm)', 'sign test p (Holm)']  # fmt: skip
    return _table(rows, headers, 5)


def correlations_table(analysis: Analysis) -> str:
    """A row for each rank correlation with the gain at `BITS` bits, at the leading eps; Markdown."""
    leading = [('range', None), ('kurtosis', None), ('near_abs', PUBLISHED_EPS), ('near_rel', MIDDLE_EPS)]
    rows = [
        [
            row['kind'],
            row['transform'],
            _at(row['predictor'], row['at']),
            ', '.join(row['given']) or '–',
            str(row['n']),
            _interval(row['rho'], row['low'], row['high']),
            _p(row['p']),
        ]
        for row in sorted(analysis['mechanism'], key=lambda row: row['kind'], reverse=True)
        if row['bits'] == BITS and (row['predictor'], row['at']) in leading
    ]
    return _table(rows, ['tensors', 'transform', 'change of', 'given', 'n', 'ρ [95%]', 'p'], 4)


def skipped_tensors(analysis: Analysis) -> list[str]:
    """Name and reason of each tensor that was left out."""
    return [f'`{tensor["name"]}`: {tensor["skipped"]}' for tensor in analysis['tensors'] if tensor['skipped']]


def _table(rows: list[list[str]], headers: list[str], words: int, tablefmt: str = 'github') -> str:
    """The first `words` columns are aligned to the left, the others to the right."""
    align = ['left'] * words + ['right'] * (len(headers) - words)
    return tabulate(rows, headers, tablefmt=tablefmt, disable_numparse=True, colalign=align)


def _at(measure: str, at: float | None) -> str:
    return measure if at is None else f'{measure}@{at:g}'


def _number(value: float | None) -> str:
    return '–' if value is None else f'{value:.3g}'


def _interval(middle: float | None, low: float | None, high: float | None) -> str:
    return f'{_number(middle)} [{_number(low)}, {_number(high)}]'


def _percent(share: float) -> str:
    return f'{100 * share:.0f}%'


def _p(p: float) -> str:
    return f'{p:.2f}' if p >= 0.01 else f'{p:.0e}'
