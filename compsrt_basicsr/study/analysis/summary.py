"""An analysis in a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from tabulate import tabulate

from compsrt_basicsr.study.analysis.tensors import distinct, gain

_SHOWN = (('range', None), ('near_abs', 0.05), ('shapiro', None), ('sqnr', 4))


def claims(analysis: Mapping[str, Any]) -> str:
    """In how many tensors each transform does what is claimed of it, with p-values, as a table."""
    largest = analysis['settings']['sample']
    wanted = [(name, largest if name == 'shapiro' else at) for name, at in _SHOWN]
    found: dict[tuple[str, str], dict[tuple[str, Any], Mapping[str, Any]]] = {}
    for test in analysis['tests']:
        found.setdefault((test['kind'], test['transform']), {})[test['measure'], test['at']] = test
    rows = [
        [f'{kind} ({max(test["n"] for test in tests.values())})', transform, *(_cell(tests.get(key)) for key in wanted)]
        for (kind, transform), tests in found.items()
    ]
    headers = ['tensors', 'transform', 'narrower', 'more within ±0.05', 'more normal (W)', 'higher SQNR at 4 bits']
    return tabulate(rows, headers, disable_numparse=True, colalign=('left', 'left', *['right'] * len(_SHOWN)))


def _cell(test: Mapping[str, Any] | None) -> str:
    return '' if test is None else f'{100 * test["share"]:.0f}%, p {_p(test["holm_p"])}'


def _p(p: float) -> str:
    return f'{p:.2f}' if p >= 0.01 else f'{p:.0e}'


def faults(analysis: Mapping[str, Any]) -> Sequence[str]:
    """A sentence for each tensor that was left out."""
    return [f'`{tensor["name"]}`: {tensor["skipped"]}' for tensor in analysis['tensors'] if tensor['skipped']]


def gains(analysis: Mapping[str, Any], bits: int = 4) -> str:
    """Mean gain in SQNR by kind, role and transform, in dB, as a table; what q, k and v share counts once."""
    transforms = analysis['transforms'][1:]
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for tensor in distinct(analysis['tensors']):
        groups.setdefault((tensor['kind'], tensor['role']), []).append(tensor['by_transform'])

    def mean_gain(entries: Sequence[Mapping[str, Any]], transform: str) -> float:
        return fmean(gain(entry['none'], entry[transform], bits) for entry in entries)

    rows = [
        [kind, role, str(len(entries)), *(f'{mean_gain(entries, transform):+.2f}' for transform in transforms)]
        for (kind, role), entries in sorted(groups.items(), reverse=True)
    ]
    headers = [f'dB gained at {bits} bits', 'role', 'tensors', *transforms]
    return tabulate(rows, headers, disable_numparse=True, colalign=('left', 'left', *['right'] * (1 + len(transforms))))
