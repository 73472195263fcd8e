"""LSQ and LSQ+: initial steps, symmetric grids, and the gradient of the step."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing.grids import read_grid, set_grid
from compsrt_basicsr.quant.bounds import search_bounds
from compsrt_basicsr.quant.factory import act_quantizer, weight_quantizer
from compsrt_basicsr.quant.functional.affine import fake_quantize
from compsrt_basicsr.quant.quantizer import Quantizer

BITS = st.integers(2, 8)


def values(signed=True, size=500, seed=0):
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    return x if signed else x.abs()


def calibrated(x, bits, method='lsq', **arguments):
    quantizer = Quantizer(bits, symmetric=True, **arguments)
    quantizer.set_bounds(*search_bounds(x, quantizer, CalibrationConfig(method=method, search='two')))
    return quantizer


@given(BITS, st.booleans(), st.integers(0, 99))
def test_lsq_starts_at_its_formula(bits, signed, seed):
    """s = 2 mean|v| / sqrt(Q_P) in float64; 1e-5: float32 means of 500 values."""
    x = values(signed, seed=seed)
    scale, zero = calibrated(x, bits).grid()
    below, above = (2 ** (bits - 1), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    assert float(scale) == pytest.approx(2 * float(x.double().abs().mean()) / math.sqrt(above), rel=1e-5)
    assert float(zero) == pytest.approx(-below * float(scale), rel=1e-6)


def test_lsq_plus_starts_weights_at_three_sigmas_and_activations_at_the_least_error():
    x = values() + 0.3
    config = CalibrationConfig(method='lsq+', search='two')
    quantizer = Quantizer(4, symmetric=True)
    quantizer.set_bounds(*search_bounds(x, quantizer, config, of_weight=True))
    wide = x.double()
    ends = [abs(float(wide.mean() + sign * 3 * wide.std(correction=0))) for sign in (-1, 1)]
    assert float(quantizer.grid()[0]) == pytest.approx(max(ends) / 8, rel=1e-5)
    assert search_bounds(x, Quantizer(4), config) == search_bounds(x, Quantizer(4), CalibrationConfig(search='two'))


@given(BITS, st.booleans(), st.sampled_from(['lsq', 'dobi', 'minmax', 'percentile']), st.integers(0, 99))
def test_a_symmetric_grid_holds_zero_and_has_no_more_than_its_levels(bits, signed, method, seed):
    x = torch.cat([values(signed, seed=seed), torch.zeros(1)])
    quantizer = calibrated(x, bits, method)
    with torch.no_grad():
        y = quantizer(x)
    assert y[-1] == 0 and len(y.unique()) <= 2**bits
    assert bool((quantizer.codes(x) == 2 ** (bits - 1))[-1]) == signed


def test_a_symmetric_range_covers_both_ends():
    """With the range as bounds nothing is clipped by more than half a step."""
    x = torch.tensor([-1.0, 0.2, 3.0])
    quantizer = calibrated(x, 3, 'minmax')
    scale, zero = (float(part) for part in quantizer.grid())
    assert (scale, zero) == pytest.approx((1.0, -4.0))  # 3 = (2^2 - 1) s
    assert float(quantizer(x)[2]) == pytest.approx(3.0)


def test_constants_have_a_grid():
    for value in (0.0, 2.5, -2.5):
        quantizer = Quantizer(4, symmetric=True)
        quantizer.set_bounds(torch.tensor([value]), torch.tensor([value]))
        # 2^-3 of the value: the codes of -2.5 end at -8
        assert float(quantizer(torch.tensor([value]))) == pytest.approx(value, abs=1e-6)


def closed_form(x, grad, scale, bits, signed):
    """dL/ds of LSQ's equation 3 in float64: q(v) - v inside, -Q_N below, Q_P above; over sqrt(N Q_P)."""
    below, above = (2 ** (bits - 1), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    v = x / scale
    inside = torch.round(v) - v
    each = torch.where(v <= -below, -float(below), torch.where(v >= above, float(above), inside))
    return float((grad * each).sum()) / math.sqrt(x.numel() * above)


@pytest.mark.parametrize('bits', [2, 3, 4])
@pytest.mark.parametrize('signed', [True, False])
def test_gradient_of_the_step(bits, signed):
    """alpha is the step in units of the first one, so that dL/dalpha = unit dL/ds; 1e-9: float64."""
    generator = torch.Generator().manual_seed(bits)
    x = values(signed, 300, bits).double()
    quantizer = calibrated(x.float(), bits, lsq_gradient=True).double()
    grad = torch.randn(300, generator=generator, dtype=torch.float64)
    scale, zero = quantizer.grid(x.numel())
    fake_quantize(x, scale, zero, quantizer.levels).backward(grad)
    expected = closed_form(x, grad, scale.detach(), bits, signed) * float(quantizer.unit)
    assert float(quantizer.scale_offset.grad) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(('symmetric', 'above'), [(True, 7), (False, 15)])
def test_the_forward_pass_scales_the_gradient_by_its_elements(symmetric, above):
    gradients = []
    for lsq in (False, True):
        quantizer = Quantizer(4, symmetric=symmetric, lsq_gradient=lsq)
        x = values()
        quantizer.set_bounds(*search_bounds(x, quantizer, CalibrationConfig(method='lsq')))
        result = quantizer(x)
        result.square().sum().backward()
        gradients.append((float(quantizer.scale_offset.grad), result.detach()))
    (plain, first), (scaled, second) = gradients
    assert torch.equal(first, second)
    assert scaled == pytest.approx(plain / math.sqrt(500 * above), rel=1e-5)


def test_each_channel_has_its_own_elements():
    x = torch.randn(3, 100, generator=torch.Generator().manual_seed(0))
    quantizer = Quantizer(4, channels=3, symmetric=True, lsq_gradient=True)
    quantizer.set_bounds(*search_bounds(x, quantizer, CalibrationConfig(method='lsq')))
    quantizer(x).square().sum().backward()
    single = calibrated(x[1], 4, lsq_gradient=True)
    single(x[1]).square().sum().backward()
    assert float(quantizer.scale_offset.grad[1]) == pytest.approx(float(single.scale_offset.grad), rel=1e-5)


@given(BITS, st.floats(2.0**-26, 2.0**20, width=32), st.booleans())
def test_symmetric_grids_round_trip_exactly(bits, step, signed):
    scale = torch.tensor([step])
    rows = torch.stack([scale, -(2.0 ** (bits - 1)) * scale if signed else 0 * scale])
    quantizer = Quantizer(bits, symmetric=True)
    set_grid(quantizer, rows)
    assert torch.equal(read_grid(quantizer), rows)


def test_a_trained_step_packs_exactly():
    quantizer = calibrated(values(), 3)
    with torch.no_grad():
        quantizer.scale_offset.fill_(0.123)
    rows = read_grid(quantizer)
    again = Quantizer(3, symmetric=True)
    set_grid(again, rows)
    assert torch.equal(read_grid(again), rows)
    assert torch.equal(again(values()), quantizer(values()))


def test_symmetric_grids_need_zero_on_a_code():
    with pytest.raises(CompSRTError, match='`x`'):
        set_grid(Quantizer(3, symmetric=True, name='x'), torch.tensor([[1.0], [-2.5]]))


@pytest.mark.parametrize(
    ('options', 'of_weights', 'of_acts'),
    [
        ({}, ('lower', 'upper', 'scale_offset', 'zero_offset'), ('lower', 'upper', 'scale_offset', 'zero_offset')),
        ({'scale_offset': False, 'zero_offset': False}, ('lower', 'upper'), ('lower', 'upper')),
        ({'method': '2dquant'}, ('lower', 'upper'), ('lower', 'upper')),
        ({'method': 'lsq'}, ('scale_offset',), ('scale_offset',)),
        ({'method': 'lsq+'}, ('scale_offset',), ('scale_offset', 'zero_offset')),
        ({'symmetric': 'weights'}, ('upper', 'scale_offset'), ('lower', 'upper', 'scale_offset', 'zero_offset')),
    ],
)
def test_learned_parameters(options, of_weights, of_acts):
    config = QuantConfig.from_opt(options)
    assert weight_quantizer(config, 8, 'w').learned == of_weights
    assert act_quantizer(config, 'x').learned == of_acts
