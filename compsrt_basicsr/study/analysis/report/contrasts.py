"""Where the numbers disagree with each other, and how verdicts depend on eps, bits and samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compsrt_basicsr.study.analysis.report.labels import (
    NORMALITY,
    interval,
    kind_label,
    listed,
    measure_label,
    number,
    percent,
    probability,
    transform_label,
)
from compsrt_basicsr.study.analysis.report.verdicts import (
    HOLDS,
    LEVEL,
    VERDICTS,
    Test,
    claims,
    families,
    find,
    nearest_eps,
    verdict,
)
from compsrt_basicsr.study.analysis.report.words import kinds


def sensitivity(analysis: Mapping[str, Any]) -> list[list[str]]:
    """Rows for each kind and transform: for each measure with a sweep, at which of its values which verdict is found.

    Returns:
        The header first.
    """
    names = families(analysis['tests'])
    rows = [['tensors', 'transform', *(measure_label(name) for name in names)]]
    for kind, transform in _groups(analysis):
        cells = [_sweep(analysis['tests'], kind, transform, name) for name in names]
        if any(cells):
            rows.append([kind_label(kind), transform_label(transform), *cells])
    return rows


def _sweep(tests: Sequence[Test], kind: str, transform: str, measure: str) -> str:
    swept = [t for t in tests if (t['kind'], t['transform'], t['measure']) == (kind, transform, measure)]
    names = [verdict(test).name for test in swept]
    if len(set(names)) == 1:
        return f'{verdict(swept[0]).text} at all'
    values = [f'{test["at"]:g}' for test in swept]
    found = []
    for possible in VERDICTS:
        places = [place for place, name in enumerate(names) if name == possible.name]
        if places:
            found.append(f'{possible.text} at {_runs(values, places)}')
    return '; '.join(found)


def _runs(values: list[str], places: list[int]) -> str:
    """The values at some places, neighbours as first to last."""
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return ', '.join(values[run[0]] if len(run) == 1 else f'{values[run[0]]} to {values[run[-1]]}' for run in runs)


def disagreements(analysis: Mapping[str, Any]) -> list[str]:
    """A sentence for each disagreement: mean and majority, Wilcoxon and sign test, weights and activations,
    transforms, absolute and relative eps, tests of normality."""
    tests = analysis['tests']
    found = [sentence for test in _leading(tests) for sentence in _within(test)]
    for kind, transform in _groups(analysis):
        found += _of_eps(tests, kind, transform)
        found += _of_normality(tests, kind, transform)
    for claim in claims(tests):
        for transform in analysis['transforms']:
            found += _split(tests, claim.noun, [(kind, transform, claim) for kind in kinds(analysis)], by_kind=True)
        for kind in kinds(analysis):
            found += _split(tests, claim.noun, [(kind, name, claim) for name in analysis['transforms']], by_kind=False)
    return found


def _groups(analysis: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    return ((kind, transform) for kind in kinds(analysis) for transform in analysis['transforms'])


def _leading(tests: Sequence[Test]) -> list[Test]:
    wanted = {(claim.measure, claim.at) for claim in claims(tests)} | {('kurtosis', None), ('crest', None)}
    return [test for test in tests if (test['measure'], test['at']) in wanted]


def _who(test: Test) -> str:
    return f'{kind_label(test["kind"]).capitalize()}, {transform_label(test["transform"])}'


def _within(test: Test) -> Iterator[str]:
    name = measure_label(test['measure'], test['at'])
    change = f'{number(test["mean"], 2)}, {interval(test, 2)}'
    if test['share'] > 0.5 and test['high'] < 0:
        yield (
            f'{_who(test)}, {name}: {percent(test["share"])} of the tensors change as claimed, but the mean change '
            f'is against the claim ({change}): fewer but larger changes outweigh the rest.'
        )
    elif test['share'] < 0.5 and test['low'] > 0:
        yield (
            f'{_who(test)}, {name}: the mean changes as claimed ({change}), but only {percent(test["share"])} of '
            f'the tensors do.'
        )
    if (test['holm_p'] <= LEVEL) != (test['holm_sign_p'] <= LEVEL):
        yield (
            f'{_who(test)}, {name}: Wilcoxon’s test (p {probability(test["holm_p"])}) and the sign test '
            f'(p {probability(test["holm_sign_p"])}) disagree at {LEVEL:g}, both after Holm.'
        )


def _of_eps(tests: Sequence[Test], kind: str, transform: str) -> Iterator[str]:
    pair = [find(tests, kind, transform, name, nearest_eps(tests, name)) for name in ('near_abs', 'near_rel')]
    if None not in pair and (verdict(pair[0]) is HOLDS) != (verdict(pair[1]) is HOLDS):
        absolute, relative = pair
        yield (
            f'{_who(absolute)}: “more mass near zero” within ±{absolute["at"]:g}: {_outcome(absolute)}; within '
            f'±{relative["at"]:g} σ, a share that does not grow when all values shrink alike: {_outcome(relative)}.'
        )


def _of_normality(tests: Sequence[Test], kind: str, transform: str) -> Iterator[str]:
    largest = max((test['at'] for test in tests if test['measure'] in NORMALITY), default=None)
    found = [find(tests, kind, transform, name, largest) for name in NORMALITY]
    found = [test for test in found if test is not None]
    holding = [measure_label(test['measure']) for test in found if verdict(test) is HOLDS]
    if holding and len(holding) < len(found):
        others = [measure_label(test['measure']) for test in found if verdict(test) is not HOLDS]
        yield (
            f'{_who(found[0])}: “more normal” holds by {listed(holding)}, not by {listed(others, "or")} '
            f'({largest:,} values of each tensor).'
        )


def _split(tests: Sequence[Test], noun: str, keys: list[tuple], by_kind: bool) -> Iterator[str]:
    found = [find(tests, kind, transform, claim.measure, claim.at) for kind, transform, claim in keys]
    found = [test for test in found if test is not None]
    outcomes = {verdict(test) is HOLDS for test in found}
    if len(outcomes) < 2:
        return

    def name(test: Test) -> str:
        return kind_label(test['kind']) if by_kind else transform_label(test['transform'])

    common = transform_label(found[0]['transform']) if by_kind else kind_label(found[0]['kind'])
    yes = [name(test) for test in found if verdict(test) is HOLDS]
    no = [name(test) for test in found if verdict(test) is not HOLDS]
    yield f'{common[0].upper()}{common[1:]}: “{noun}” holds for {listed(yes)}, not for {listed(no, "or")}.'


def _outcome(test: Test) -> str:
    return f'{verdict(test).text} (p {probability(test["holm_p"])})'
