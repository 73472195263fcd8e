"""Sentences follow the numbers: other numbers, other words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_analysis import small_analysis

from compsrt_basicsr.study.analysis.report import words
from compsrt_basicsr.study.analysis.report.contrasts import disagreements, sensitivity
from compsrt_basicsr.study.analysis.report.labels import number, probability
from compsrt_basicsr.study.analysis.report.verdicts import AGAINST, HOLDS, MIXED, OPEN, claims, verdict

SHOWN = {'share': 1.0, 'mean': 0.2, 'low': 0.1, 'high': 0.3, 'd_z': 1.2, 'holm_p': 0.001, 'holm_sign_p': 0.002}
OPPOSITE = {'share': 0.25, 'mean': -0.2, 'low': -0.3, 'high': -0.1, 'd_z': -0.9}
RANGE = ('weight', 'auto', 'range', None)


@pytest.mark.parametrize(
    'change, wanted', [({}, OPEN), (SHOWN, HOLDS), ({**SHOWN, 'mean': -0.2}, MIXED), (OPPOSITE, AGAINST)]
)
def test_verdict_needs_both_the_adjusted_p_and_the_mean(change, wanted):
    test = next(t for t in small_analysis({RANGE: change})['tests'] if t['measure'] == 'range')
    assert verdict(test) is wanted


def test_an_unadjusted_p_shows_nothing():
    test = next(t for t in small_analysis({RANGE: {**SHOWN, 'wilcoxon_p': 1e-6, 'holm_p': 0.051}})['tests'])
    assert verdict(test) is OPEN


def test_lead_says_what_is_shown_and_what_is_not():
    [weights, activations, total] = words.lead(small_analysis({RANGE: SHOWN}))
    assert weights.startswith('Weights (8 tensors), exact Hadamard: the tests show narrower ranges (100%, d_z 1.2, p =')
    assert 'do not show more values within ±0.05' in weights
    assert 'the tests show' not in activations and 'do not show narrower ranges' in activations
    assert total.startswith('Of all 80 tests 1 holds') and '1 of 40 under exact Hadamard, 0 of 40 under DCT' in total


def test_lead_names_the_opposite():
    weights = words.lead(small_analysis({RANGE: OPPOSITE}))[0]
    assert 'the mean change is against narrower ranges (25%, d_z −0.90, p = 1)' in weights


def test_lead_says_when_no_test_could_hold():
    few = small_analysis()
    for test in few['tests']:
        test.update(n=3, smallest_p=0.125)
    assert 'With 3 tensors no test can give a p below 0.12' in words.lead(few)[-1]
    assert not any('no test can' in sentence for sentence in words.lead(small_analysis()))


def test_details_carry_all_numbers_of_a_claim():
    analysis = small_analysis({RANGE: SHOWN})
    claim = next(claim for claim in claims(analysis['tests']) if claim.measure == 'range')
    sentence = words.details(analysis, claim)[0]
    for part in (
        'narrower in 8 of 8 tensors (100%), median ratio of ranges 0.900',
        '0.200 (95% interval 0.100 to 0.300)',
        'd_z = 1.2 (large)',
        'p = 0.0010 after Holm (sign test: p = 0.0020): holds.',
    ):
        assert part in sentence


@pytest.mark.parametrize(
    'plain, partial, wanted, held',
    [
        ((0.8, 0.6, 0.9), (0.5, 0.2, 0.7), 'the more it narrows the range, the more SQNR', 'this remains'),
        ((0.8, 0.6, 0.9), (0.1, -0.2, 0.4), 'the more SQNR is gained', 'no relation is shown'),
        ((-0.8, -0.9, -0.6), (0.5, 0.2, 0.7), 'the less SQNR is gained', 'a larger gain goes with more of it'),
        ((0.1, -0.2, 0.4), (-0.5, -0.7, -0.2), 'no relation is shown between', 'a smaller gain goes with more of it'),
    ],
)
def test_mechanism_tells_sign_and_what_is_left(plain, partial, wanted, held):
    analysis = small_analysis(kinds=('weight',))
    for row in analysis['mechanism']:
        if (row['predictor'], row['transform'], row['bits']) == ('range', 'auto', 4):
            row.update(zip(('rho', 'low', 'high'), partial if row['given'] else plain))
    sentence = words.mechanism(analysis)[0]
    assert wanted in sentence
    assert f'with share within ±ε and excess kurtosis held fixed {held} (ρ = {number(partial[0], 2)}' in sentence


def test_consistent_numbers_disagree_nowhere():
    assert disagreements(small_analysis()) == []


@pytest.mark.parametrize(
    'change, wanted',
    [
        ({**OPPOSITE, 'share': 0.75}, '75% of the tensors change as claimed, but the mean change is against the claim'),
        ({**SHOWN, 'share': 0.4}, 'but only 40% of the tensors do'),
        ({**SHOWN, 'holm_sign_p': 0.3}, 'Wilcoxon’s test (p = 0.0010) and the sign test (p = 0.30) disagree'),
        (SHOWN, 'Exact Hadamard: “narrower ranges” holds for weights, not for activations.'),
        (SHOWN, 'Weights: “narrower ranges” holds for exact Hadamard, not for DCT.'),
    ],
)
def test_disagreements_are_named(change, wanted):
    assert any(wanted in sentence for sentence in disagreements(small_analysis({RANGE: change})))


def test_absolute_and_relative_mass_near_zero_are_compared():
    found = disagreements(small_analysis({('weight', 'auto', 'near_abs', 0.05): SHOWN}))
    assert any('within ±0.05: holds (p = 0.0010); within ±0.5 σ' in sentence for sentence in found)


def test_tests_of_normality_are_compared_at_the_largest_sample():
    found = disagreements(small_analysis({('weight', 'dct', 'anderson', 5000): SHOWN}))
    [sentence] = [sentence for sentence in found if 'more normal” holds by Anderson' in sentence]
    assert sentence.startswith('Weights, DCT') and 'Shapiro–Wilk W, D’Agostino K² or Jarque–Bera (5,000' in sentence


def test_sensitivity_tells_where_a_verdict_changes():
    keys = [('weight', 'auto', 'near_abs', eps) for eps in (0.05, 0.2)]
    header, first, *_ = sensitivity(small_analysis(dict.fromkeys(keys, SHOWN)))
    cells = dict(zip(header, first))
    assert cells['share within ±ε'] == 'holds at 0.05 to 0.2; not shown at 0.01'
    assert cells['SQNR (dB)'] == 'not shown at all'


def test_numbers_are_short_and_true():
    assert number(0.00012345) == '0.000123'
    assert number(-1234567.0) == '−1.23×10⁶'
    assert number(4.8e-23, 2) == '4.8×10⁻²³'
    assert number(None) == '–'
    assert probability(0.0) == '< 10⁻³⁰⁰' and probability(1.0) == '= 1'


@given(st.floats(-1e12, 1e12).filter(lambda x: abs(x) > 1e-12), st.integers(1, 6))
def test_a_number_is_right_to_its_digits(value, digits):
    """Read back, a written number is off by at most half of its last digit."""
    text = number(value, digits).replace('−', '-')
    plain, _, power = text.partition('×10')
    power = int(power.translate(str.maketrans('⁻⁰¹²³⁴⁵⁶⁷⁸⁹', '-0123456789')) or 0)
    limit = 0.5 * 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)
    assert abs(float(plain) * 10.0**power - value) <= limit * 1.001
