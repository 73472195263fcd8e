"""What a test across tensors supports, and which tests the report leads with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compsrt_basicsr.study.analysis.report.labels import NORMALITY

Test = Mapping[str, Any]
LEVEL = 0.05  # of p-values after Holm
PUBLISHED_EPS, MIDDLE_EPS, USUAL_BITS = 0.05, 0.5, 4


@dataclass(frozen=True)
class Verdict:
    """What a test says of a claim.

    Attributes:
        name: for style sheets.
        text: for readers.
        sign: a mark that does not need colour.
    """

    name: str
    text: str
    sign: str


HOLDS = Verdict('holds', 'holds', '✓')
MIXED = Verdict('mixed', 'by ranks, not on average', '±')
AGAINST = Verdict('against', 'opposite on average', '✗')
OPEN = Verdict('open', 'not shown', '○')
VERDICTS = (HOLDS, MIXED, AGAINST, OPEN)


def verdict(test: Test) -> Verdict:
    """Holds: p of Wilcoxon's test after Holm is at most `LEVEL` and the mean changes as claimed, too.

    Mixed: the ranks do, the mean does not. Against: they do not, and the interval of the mean change lies wholly on
    the other side; the interval is of this mean alone, not adjusted for the number of tests.
    """
    if test['holm_p'] <= LEVEL:
        return HOLDS if test['mean'] > 0 else MIXED
    return AGAINST if test['high'] < 0 else OPEN


@dataclass(frozen=True)
class Claim:
    """What is said of a transform.

    Attributes:
        measure: as in the tests.
        at: eps, values in the sample or bits, or None.
        noun: as a subject.
        change: what happens to a tensor of which it is true.
    """

    measure: str
    at: float | None
    noun: str
    change: str


def claims(tests: Sequence[Test]) -> list[Claim]:
    """The claims of the paper and what they are for, at the published eps, the largest sample, and 4 bits or the
    nearest that was tested."""
    found = []
    if _values(tests, 'range'):
        found.append(Claim('range', None, 'narrower ranges', 'narrower'))
    eps = _nearest(_values(tests, 'near_abs'), PUBLISHED_EPS)
    if eps is not None:
        found.append(Claim('near_abs', eps, f'more values within ±{eps:g}', f'with more values within ±{eps:g}'))
    sizes = [size for size in _values(tests, 'shapiro') if size is not None]
    if sizes:
        found.append(Claim('shapiro', max(sizes), 'more normal distributions', 'more normal (Shapiro–Wilk)'))
    bits = _nearest(_values(tests, 'sqnr'), USUAL_BITS)
    if bits is not None:
        found.append(Claim('sqnr', bits, f'a higher SQNR at {bits} bits', f'of higher SQNR at {bits} bits'))
    return found


def families(tests: Sequence[Test]) -> list[str]:
    """Measures that were tested at several eps, bits or samples."""
    known = ('near_abs', 'near_rel', *NORMALITY, 'sqnr')
    return [name for name in known if len(_values(tests, name)) > 1]


def find(tests: Sequence[Test], kind: str, transform: str, measure: str, at: float | None) -> Test | None:
    """The one test, or None where it was not made."""
    wanted = (kind, transform, measure, at)
    return next((t for t in tests if (t['kind'], t['transform'], t['measure'], t['at']) == wanted), None)


def nearest_eps(tests: Sequence[Test], measure: str) -> float | None:
    """The eps that the report leads with, of `near_abs` or `near_rel`."""
    return _nearest(_values(tests, measure), PUBLISHED_EPS if measure == 'near_abs' else MIDDLE_EPS)


def _values(tests: Sequence[Test], measure: str) -> list[Any]:
    return list(dict.fromkeys(test['at'] for test in tests if test['measure'] == measure))


def _nearest(values: Sequence[float], wanted: float) -> float | None:
    return min(values, key=lambda value: abs(value - wanted), default=None)
