"""The summary: sentences made of the numbers, which say no more than these support."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compsrt_basicsr.study.analysis.report.labels import (
    interval,
    kind_label,
    listed,
    measure_label,
    number,
    percent,
    probability,
    transform_label,
)
from compsrt_basicsr.study.analysis.report.verdicts import HOLDS, LEVEL, Claim, Test, claims, find, verdict
from compsrt_basicsr.study.analysis.tensors import distinct

Analysis = Mapping[str, Any]


def kinds(analysis: Analysis) -> list[str]:
    """Kinds of the tensors that were analysed, weights first."""
    return sorted({tensor['kind'] for tensor in distinct(analysis['tensors'])}, reverse=True)


def lead(analysis: Analysis) -> list[str]:
    """One sentence for each kind: which claims hold of the first transform; then how many tests hold in all."""
    tests = analysis['tests']
    if not tests:
        return ['There are too few tensors or no transforms to compare, so nothing was tested.']
    transform = analysis['transforms'][1]
    found = [_lead(analysis, kind, transform) for kind in kinds(analysis)]
    holding = {name: _holding(tests, name) for name in analysis['transforms'][1:]}
    total = sum(verdict(test) is HOLDS for test in tests)
    found.append(
        f'Of all {len(tests)} tests {total} hold{"s" if total == 1 else ""}, that is, the mean changes as claimed and '
        f'p ≤ {LEVEL:g} after Holm’s correction over all of them: '
        + ', '.join(f'{count} under {transform_label(name)}' for name, count in holding.items())
        + '.'
    )
    weakest = max(tests, key=lambda test: test['smallest_p'])
    if weakest['smallest_p'] * len(tests) > LEVEL:
        found.append(
            f'With {weakest["n"]} tensors no test can give a p below {number(weakest["smallest_p"], 2)}, so none of '
            f'so many could hold.'
        )
    return [sentence for sentence in found if sentence]


def _holding(tests: Sequence[Test], transform: str) -> str:
    own = [test for test in tests if test['transform'] == transform]
    return f'{sum(verdict(test) is HOLDS for test in own)} of {len(own)}'


def _lead(analysis: Analysis, kind: str, transform: str) -> str:
    by_verdict: dict[str, list[str]] = {}
    for claim in claims(analysis['tests']):
        test = find(analysis['tests'], kind, transform, claim.measure, claim.at)
        if test is not None:
            evidence = f'{percent(test["share"])}, d_z {number(test["d_z"], 2)}, p {probability(test["holm_p"])}'
            by_verdict.setdefault(verdict(test).name, []).append(f'{claim.noun} ({evidence})')
    if not by_verdict:
        return ''
    phrases = []
    for name, phrase in (
        ('holds', 'the tests show {}'),
        ('mixed', 'by ranks most tensors have {}, yet the mean changes the other way'),
        ('open', 'the tests do not show {}'),
        ('against', 'the mean change is against {}'),
    ):
        if name in by_verdict:
            phrases.append(phrase.format(listed(by_verdict[name], 'or' if name == 'open' else 'and')))
    tensors = len(distinct(analysis['tensors'], kind))
    sentence = f'{kind_label(kind).capitalize()} ({tensors} tensors), {transform_label(transform)}: '
    return sentence + '; '.join(phrases) + '.'


def mechanism(analysis: Analysis) -> list[str]:
    """Whether narrower ranges and mass near zero predict the gain of the first transform, plain and partial."""
    tests = analysis['tests']
    if not (tests and analysis['mechanism']):
        return []
    found = []
    usual = next((claim.at for claim in claims(tests) if claim.measure == 'sqnr'), None)
    for kind in kinds(analysis):
        rows = [
            row
            for row in analysis['mechanism']
            if (row['kind'], row['bits'], row['transform']) == (kind, usual, analysis['transforms'][1])
        ]
        for measure in ('range', 'near_abs'):
            found += _predicts([row for row in rows if row['predictor'] == measure], tests)
    return found


def _predicts(rows: Sequence[Mapping[str, Any]], tests: Sequence[Test]) -> Iterator[str]:
    """A sentence about the plain correlation at the leading eps, and the partial one where there is one."""
    eps = next((claim.at for claim in claims(tests) if claim.measure == 'near_abs'), None)
    plain = next((row for row in rows if not row['given'] and row['at'] in (None, eps)), None)
    partial = next((row for row in rows if row['given'] and row['at'] in (None, eps)), None)
    if plain is None:
        return
    sentence = f'{kind_label(plain["kind"]).capitalize()}, {transform_label(plain["transform"])}: {_relation(plain)}'
    if partial is not None:
        others = listed([measure_label(name) for name in partial['given']])
        sentence += f'; with {others} held fixed {_rest(_direction(plain), partial)} ({_rho(partial)})'
    yield sentence + '.'


def _direction(row: Mapping[str, Any]) -> int:
    """1 or -1 where the interval of a correlation lies on one side of 0, else 0."""
    return (row['low'] > 0) - (row['high'] < 0)


def _relation(row: Mapping[str, Any]) -> str:
    narrows, mass = row['predictor'] == 'range', f'within ±{row["at"]}'
    if not _direction(row):
        thing = 'the change of range' if narrows else f'the change of mass {mass}'
        return f'no relation is shown between {thing} and the gain in SQNR at {row["bits"]} bits ({_rho(row)})'
    cause = 'the more it narrows the range' if narrows else f'the more values it moves to {mass}'
    effect = 'more' if _direction(row) > 0 else 'less'
    return f'{cause}, the {effect} SQNR is gained at {row["bits"]} bits ({_rho(row)})'


def _rest(plain: int, partial: Mapping[str, Any]) -> str:
    direction = _direction(partial)
    if not direction:
        return 'no relation is shown'
    if direction == plain:
        return 'this remains'
    return f'a {"larger" if direction > 0 else "smaller"} gain goes with more of it'


def _rho(row: Mapping[str, Any]) -> str:
    return f'ρ = {number(row["rho"], 2)}, {interval(row, 2)}'


def details(analysis: Analysis, claim: Claim) -> list[str]:
    """A sentence for each kind and transform with all numbers of one claim."""
    found = []
    for kind in kinds(analysis):
        for transform in analysis['transforms']:
            test = find(analysis['tests'], kind, transform, claim.measure, claim.at)
            if test is not None:
                found.append(_detail(analysis, claim, test))
    return found


def _detail(analysis: Analysis, claim: Claim, test: Test) -> str:
    tensors = round(test['share'] * test['n'])
    middle = _typical(analysis, claim, test)
    mean = f'{number(test["mean"])} ({interval(test)})'
    return (
        f'{kind_label(test["kind"]).capitalize()}, {transform_label(test["transform"])}: {claim.change} in {tensors} '
        f'of {test["n"]} tensors ({percent(test["share"])}){middle}; mean change towards the claim {mean}, '
        f'd_z = {number(test["d_z"], 2)} ({_size(test["d_z"])}); p {probability(test["holm_p"])} after Holm '
        f'(sign test: p {probability(test["holm_sign_p"])}): {verdict(test).text}.'
    )


def _typical(analysis: Analysis, claim: Claim, test: Test) -> str:
    """The median change in a unit that can be pictured, which few large tensors cannot rule."""
    pairs = [
        (t['by_transform']['none'], t['by_transform'][test['transform']])
        for t in distinct(analysis['tensors'], test['kind'])
    ]
    if claim.measure == 'range':
        ratio = statistics.median(after['range'] / before['range'] for before, after in pairs)
        return f', median ratio of ranges {number(ratio)}'
    if claim.measure == 'sqnr':
        bits = str(claim.at)
        gain = statistics.median(
            after['quant'][bits]['sqnr'] - before['quant'][bits]['sqnr'] for before, after in pairs
        )
        return f', median gain {number(gain, 2)} dB'
    return ''


def _size(d_z: float | None) -> str:
    """Cohen's words for effects."""
    if d_z is None:
        return 'the same change in all'
    words = ((0.8, 'large'), (0.5, 'medium'), (0.2, 'small'))
    return next((word for least, word in words if abs(d_z) >= least), 'less than small') + (
        '' if d_z >= 0 else ', against the claim'
    )
