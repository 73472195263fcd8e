"""What is streamed is what the whole tensor gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from compsrt_basicsr.quant.functional.transform import transform_matrix
from compsrt_basicsr.study.analysis.measures import measures
from compsrt_basicsr.study.analysis.moments import Moments
from compsrt_basicsr.study.analysis.settings import AnalysisSettings
from compsrt_basicsr.study.analysis.stream import BINS, EPS_ABS, EPS_REL, OUTLIER, FirstPass, SecondPass

SETTINGS = AnalysisSettings(sample=500)


def skewed(rows: int, width: int = 12, seed: int = 0) -> torch.Tensor:
    """Heavy-tailed, asymmetric, off centre."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator).exp() * 0.1 - 0.05


def both_passes(pieces, kind='none', seed=(0,)):
    matrix = None if kind == 'none' else transform_matrix(kind, pieces[0].shape[1]).float()
    first = FirstPass(matrix)
    for piece in pieces:
        first.add(piece)
    second = SecondPass(first, SETTINGS.sample, seed)
    for piece in pieces:
        second.add(piece)
    return first, second


@settings(max_examples=50)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 5), st.floats(-100, 100))
def test_moments_are_those_of_the_whole(sizes: list[int], seed: int, offset: float):
    """Merged in any pieces, moments are SciPy's of the values together."""
    pieces = [skewed(size, 1, seed + i).flatten().double() + offset for i, size in enumerate(sizes)]
    whole = torch.cat(pieces).numpy()
    found = Moments()
    for piece in pieces:
        found = found.merge(Moments.of(piece))
    assert found.count == len(whole)
    # float64, less what a distant mean costs
    assert found.mean == pytest.approx(whole.mean(), rel=1e-12, abs=1e-12)
    assert found.std == pytest.approx(whole.std(), rel=1e-9, abs=1e-12)
    assert found.mean_square == pytest.approx((whole**2).mean(), rel=1e-9, abs=1e-15)
    if whole.std() > 1e-6:
        assert found.skewness == pytest.approx(stats.skew(whole), rel=1e-6, abs=1e-6)
        assert found.kurtosis == pytest.approx(stats.kurtosis(whole), rel=1e-6, abs=1e-6)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.sampled_from(['none', 'auto', 'padded']))
def test_pieces_do_not_matter(sizes: list[int], kind: str):
    """All measures are the same whether a tensor comes whole or in pieces."""
    pieces = [skewed(size, 12, i) for i, size in enumerate(sizes)]
    if sum(sizes) < 3:
        return
    together = measures(*both_passes([torch.cat(pieces)], kind), SETTINGS)
    apart = measures(*both_passes(pieces, kind), SETTINGS)
    for name in ('count', 'min', 'max', 'mean', 'std', 'skewness', 'kurtosis', 'crest', 'incoherence'):
        assert apart[name] == pytest.approx(together[name], rel=1e-4, abs=1e-6), name  # products in float32
    for name in ('near_abs', 'near_rel', 'outliers'):
        # a value on an edge may fall on either side
        assert np.abs(np.subtract(apart[name], together[name])).max() <= 2 / together['count'], name


@pytest.mark.parametrize('kind', ['none', 'auto', 'padded', 'dct'])
def test_measures_are_those_of_the_definitions(kind: str):
    rows = skewed(700)
    matrix = np.eye(12) if kind == 'none' else transform_matrix(kind, 12).numpy()
    x = (rows.double().numpy() @ matrix).ravel()
    found = measures(*both_passes([rows], kind), SETTINGS)
    assert found['count'] == len(x) == 700 * (16 if kind == 'padded' else 12)
    assert found['range'] == pytest.approx(x.max() - x.min(), rel=1e-5)
    assert found['crest'] == pytest.approx(np.abs(x - x.mean()).max() / x.std(), rel=1e-5)
    assert found['incoherence'] == pytest.approx(np.abs(x).max() * np.sqrt(len(x)) / np.linalg.norm(x), rel=1e-5)
    slack = 2 / len(x)
    assert found['outliers'] == pytest.approx((np.abs(x - x.mean()) > OUTLIER * x.std()).mean(), abs=slack)
    assert found['near_abs'] == pytest.approx([(np.abs(x) <= eps).mean() for eps in EPS_ABS], abs=slack)
    assert found['near_rel'] == pytest.approx([(np.abs(x) <= eps * x.std()).mean() for eps in EPS_REL], abs=slack)
    assert sum(found['histogram']['counts']) == len(x)
    expected, _ = np.histogram(x, 128, (x.min(), x.max()))
    assert np.abs(np.subtract(found['histogram']['counts'], expected)).sum() <= 8  # values on edges


def test_counts_near_zero_are_exact_on_the_edge():
    """|x| = eps counts as near."""
    values = torch.tensor([[-0.05, 0.05, 0.0500001, 0.0]])
    first = FirstPass(None)
    first.add(values)
    assert first.near[EPS_ABS.index(0.05)] == 3


def test_the_incoherence_of_the_identity_is_its_root():
    """QuIP's mu of I_n is sqrt(n), its largest; a Hadamard matrix has the least, 1."""
    rows = torch.eye(20)
    assert measures(*both_passes([rows]), SETTINGS)['incoherence'] == pytest.approx(20**0.5)
    assert measures(*both_passes([rows], 'hadamard'), SETTINGS)['incoherence'] == pytest.approx(1.0, rel=1e-6)


def test_padding_is_never_counted():
    """Vectors of order 10 have no zeros: neither before nor after their 16 coefficients are made is any |x| tiny."""
    rows = 1 + torch.rand(500, 10, generator=torch.Generator().manual_seed(0))
    first, _ = both_passes([rows])
    assert first.moments.count == 5000 and first.near.sum() == 0
    padded, _ = both_passes([rows], 'padded')
    assert padded.moments.count == 8000
    # a transform keeps the energy of each vector
    energy = padded.moments.mean_square * 8000
    assert energy == pytest.approx(float((rows.double() ** 2).sum()), rel=1e-5)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=5), st.integers(0, 3))
def test_samples_are_drawn_from_all_and_do_not_depend_on_pieces(sizes: list[int], seed: int):
    values = torch.arange(12 * sum(sizes), dtype=torch.float32).view(-1, 12)
    _, whole = both_passes([values], seed=(seed,))
    _, parts = both_passes(list(values.split(sizes)), seed=(seed,))
    assert np.array_equal(whole.sample, parts.sample)
    assert len(np.unique(whole.sample)) == len(whole.sample) == min(500, values.numel())


def test_the_beginning_of_a_sample_is_a_sample():
    """The first 100 of 500 drawn from 0 .. 11999 are spread over the whole, in no order."""
    _, second = both_passes([torch.arange(12000, dtype=torch.float32).view(-1, 12)])
    begin = second.sample[:100]
    assert 4500 < begin.mean() < 7500  # 4 standard errors
    assert not np.array_equal(begin, np.sort(begin))


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
def test_values_that_are_not_finite_are_noticed(bad: float):
    first = FirstPass(None)
    first.add(skewed(10))
    assert first.finite
    broken = skewed(10)
    broken[3, 4] = bad
    first.add(broken)
    first.add(skewed(10))
    assert not first.finite


@pytest.mark.parametrize('value', [0.0, -3.0, 1e-3])
def test_constants_are_noticed(value: float):
    first = FirstPass(None)
    first.add(torch.full((10, 12), value))
    assert first.constant
    first.add(torch.full((1, 12), value + 0.01))
    assert not first.constant


def test_a_stream_needs_the_same_memory_for_any_amount():
    """What a tensor leaves behind is histogram and sample: 32 kB and at most 60 kB."""
    sizes = []
    for repeats in (1, 20):
        _, second = both_passes([skewed(1000)] * repeats)
        held = second.counts.numel() * 8, second.sample.nbytes, second._positions.nbytes, second._order.nbytes
        sizes.append(sum(held))
    assert sizes[0] == sizes[1] <= BINS * 8 + SETTINGS.sample * 20
