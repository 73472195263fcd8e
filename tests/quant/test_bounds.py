"""Bounds: histogram DOBI against an exhaustive search, other searches, and the calibration of a network."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.bounds import search_bounds
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.convert import quantize_
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers


def uniform(shape, generator):
    return torch.rand(shape, generator=generator)


def normal(shape, generator):
    return torch.randn(shape, generator=generator)


DISTRIBUTIONS = {
    'normal': normal,
    'uniform': uniform,
    'laplace': lambda n, g: torch.log(uniform(n, g) / uniform(n, g)),
    'skewed': lambda n, g: normal(n, g).exp(),
    'relu': lambda n, g: normal(n, g).relu(),
    'gelu': lambda n, g: nn.functional.gelu(normal(n, g)),
    'softmax': lambda n, g: torch.softmax(2 * normal((n // 64, 64), g), -1).flatten(),
    'outlier': lambda n, g: torch.cat([normal(n - 2, g), torch.tensor([-9.0, 30.0])]),
    'two values': lambda n, g: (uniform(n, g) > 0.3) * 2.0 - 1.0,
}


def exhaustive(x, levels, one_sided, candidates):
    """Squared error of every candidate on the raw values, from method.md's definition, in float64."""
    x = x.double()
    low, high = x.min(), x.max()
    errors = []
    for i in range(candidates):
        move = i * (high - low) / (2 * candidates)
        lower, upper = (low, high - 2 * move) if one_sided else (low + move, high - move)
        step = (upper - lower) / (levels - 1)
        codes = torch.round((x.clip(lower, upper) - lower) / step)
        errors.append((((step * codes + lower) - x).square().sum().item(), lower.item(), upper.item()))
    return errors


@settings(max_examples=40)
@given(
    st.sampled_from(sorted(DISTRIBUTIONS)),
    st.sampled_from([2, 3, 4, 8]),
    st.sampled_from(['one', 'two']),
    st.sampled_from([2000, 20000]),
    st.floats(-5, 5),
    st.integers(0, 99),
)
def test_histogram_search_is_near_the_exhaustive_search(name, bits, search, size, logarithm, seed):
    """The chosen pair is a candidate whose true error is within 0.1 % of the best; below 8192 values it is exact.

    0.1 %: a bin is 1/32 of an 8-bit step, and moves the error of a value by (1/32)^2 of the step's own.
    """
    x = DISTRIBUTIONS[name](size, torch.Generator().manual_seed(seed)) * 10.0**logarithm
    config = CalibrationConfig(search=search, candidates=30)
    lower, upper = (float(b) for b in search_bounds(x, Quantizer(bits), config))
    errors = exhaustive(x, 2**bits, search == 'one', 30)
    near = 1e-4 * (errors[0][2] - errors[0][1])
    chosen = [e for e, low, high in errors if abs(low - lower) < near and abs(high - upper) < near]
    assert chosen, 'the bounds are not a candidate pair'
    best = min(errors)[0]
    assert min(chosen) <= best * 1.001 + 1e-9 * float(x.double().square().sum())


@pytest.mark.parametrize(
    ('name', 'one_sided'), [('relu', True), ('softmax', True), ('normal', False), ('uniform', None), ('laplace', False)]
)
def test_auto_is_one_sided_if_the_smallest_value_is_the_mode(name, one_sided):
    x = DISTRIBUTIONS[name](20000, torch.Generator().manual_seed(0))
    bounds = {s: search_bounds(x, Quantizer(2), CalibrationConfig(search=s)) for s in ('auto', 'one', 'two')}
    if one_sided is not None:
        assert bounds['auto'] == bounds['one' if one_sided else 'two']
        assert (bounds['auto'][0] == x.min()) == one_sided


def test_outliers_are_cut_off():
    x = DISTRIBUTIONS['outlier'](5000, torch.Generator().manual_seed(0))
    lower, upper = search_bounds(x, Quantizer(4), CalibrationConfig(search='two'))
    assert upper < 25
    assert search_bounds(x, Quantizer(4), CalibrationConfig(method='minmax')) == (x.min()[None], x.max()[None])
    assert lower > -9


@pytest.mark.parametrize('top', [1, 255])
def test_pixels_get_a_grid_that_represents_all_images(top):
    pixels = torch.randint(40, 200, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)) / 255 * top
    quantizer = Quantizer(8)
    quantizer.set_bounds(*search_bounds(pixels, quantizer, CalibrationConfig()))
    every = torch.arange(256) / 255 * top
    torch.testing.assert_close(quantizer(every), every)


@pytest.mark.parametrize('change', [lambda x: x - 0.5, lambda x: x * 0.999, lambda x: x * 1e-6, lambda x: x * 0])
def test_what_is_no_pixel_gets_its_own_bounds(change):
    values = change(torch.randint(40, 200, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)) / 255)
    lower, upper = search_bounds(values, Quantizer(8), CalibrationConfig())
    assert values.min() <= lower <= upper <= values.max()


def test_one_candidate_is_the_range():
    x = DISTRIBUTIONS['outlier'](5000, torch.Generator().manual_seed(0))
    assert search_bounds(x, Quantizer(4), CalibrationConfig(candidates=1)) == (x.min(), x.max())


def test_channels_are_searched_separately():
    """A constant channel does not end the search of the others."""
    rows = torch.stack([DISTRIBUTIONS[name](900, torch.Generator().manual_seed(1)) for name in ('normal', 'relu')])
    rows = torch.cat([rows, torch.full((1, 900), 2.0)])
    config = CalibrationConfig(candidates=20)
    lower, upper = search_bounds(rows, Quantizer(3, channels=3), config)
    for i, row in enumerate(rows):
        assert (lower[i], upper[i]) == search_bounds(row, Quantizer(3), config)


@pytest.mark.parametrize('bits', [2, 3, 4])
def test_search_measures_the_error_on_the_grid_with_zero(bits):
    """No candidate gives a smaller error of the kept values on the shifted grid.

    1e-5 relative: float32 sums of 2000 squares compared with float64.
    """
    generator = torch.Generator().manual_seed(bits)
    x = torch.randn(2000, generator=generator)
    keep = x.abs() > 0.5
    quantizer, errors = Quantizer(bits, zero_on_grid=True), []
    config = CalibrationConfig(candidates=20, search='two')
    kept = x[keep].double()
    for i in range(20):
        move = i * (kept.max() - kept.min()) / 40
        lower, upper = kept.min() + move, kept.max() - move
        step = (upper - lower) / (2**bits - 1)
        k = torch.round(-lower / step)
        codes = torch.round(kept / step + k).clip(0, 2**bits - 1)
        errors.append(float((step * (codes - k) - kept).square().sum()))
    quantizer.set_bounds(*search_bounds(x, quantizer, config, keep))
    with torch.no_grad():
        error = float((quantizer(x[keep]).double() - kept).square().sum())
    assert error == pytest.approx(min(errors), rel=1e-5)


@pytest.mark.parametrize('value', [0.0, 3.5])
def test_constants_get_their_own_value(value):
    lower, upper = search_bounds(torch.full((9,), value), Quantizer(4), CalibrationConfig())
    assert lower == upper == value


class Branches(nn.Module):
    """Linear layers, one of which is never used."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(12, 12), nn.Linear(12, 8), nn.Linear(12, 8)

    def forward(self, x):
        return self.second(self.first(x).relu())


def quantized(unused=False, **options):
    torch.manual_seed(0)
    network = Branches()
    config = QuantConfig(quantize_head_tail=True, exclude=() if unused else ('unused',), **options)
    quantize_(network, config)
    return network


def test_every_quantizer_sees_the_full_precision_tensor():
    """A quantizer's bounds do not depend on the quantizers before it."""
    network = quantized(weight_bits=2, act_bits=2)
    x = torch.randn(50, 12)
    calibrate(network, x, CalibrationConfig(method='minmax'), progress=False)
    assert all(q.is_calibrated and q.observer is None for q in quantizers(network).values())
    seen = network.second.transform(nn.functional.linear(x, network.first.weight, network.first.bias).relu())
    bounds = network.second.act_quantizer.bounds()
    for bound, expected in zip(bounds, seen.aminmax()):
        assert abs((bound - expected).item()) < 1e-5  # float32 sums in the transformed domain


class InPlace(nn.Module):
    """Adds to its input what a layer makes of it, in place: two quantizers see one tensor with other values."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        x = x.clone()
        x += 5 * self.first(x)
        return self.second(x)


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_values_that_changed_in_place_are_searched_again(mode):
    torch.manual_seed(0)
    network, x = InPlace(), torch.rand(40, 6)
    quantize_(network, QuantConfig(quantize_head_tail=True, operands='activations', transform='none'))
    with mode():
        calibrate(network, x, CalibrationConfig(method='minmax'), progress=False)
        seen = x + 5 * nn.functional.linear(x, network.first.weight, network.first.bias)
    torch.testing.assert_close(torch.stack(network.second.act_quantizer.bounds()), torch.stack(seen.aminmax()))


def test_mode_of_the_network_is_kept():
    for training in (True, False):
        network = quantized().train(training)
        calibrate(network, torch.randn(5, 12), CalibrationConfig(), progress=False)
        assert network.training == training


def test_quantizers_without_data_are_an_error():
    with pytest.raises(CompSRTError, match=r'`unused\.weight_quantizer`'):
        calibrate(quantized(unused=True), torch.randn(5, 12), CalibrationConfig(), progress=False)


def test_networks_without_quantizers_are_an_error():
    with pytest.raises(CompSRTError, match='Branches'):
        calibrate(Branches(), torch.randn(5, 12), CalibrationConfig(), progress=False)


@pytest.mark.parametrize('where', ['weight', 'image'])
def test_nan_names_the_quantizer_and_leaves_no_observer(where):
    network, x = quantized(), torch.randn(5, 12)
    if where == 'weight':
        with torch.no_grad():
            network.second.weight[0, 0] = float('nan')
    else:
        x[0, 0] = float('nan')
    name = r'second\.weight_quantizer' if where == 'weight' else r'first\.act_quantizer'
    with pytest.raises(CompSRTError, match=f'`{name}`'):
        calibrate(network, x, CalibrationConfig(), progress=False)
    assert all(q.observer is None for q in quantizers(network).values())


@pytest.mark.parametrize('method', ['dobi', 'minmax', 'percentile', 'lsq', 'lsq+'])
@pytest.mark.parametrize('values', [(0.0, float('inf')), (-3e38, 3e38)])
def test_ranges_beyond_float32_name_the_quantizer(method, values):
    quantizer = Quantizer(4, name='x')
    with pytest.raises(CompSRTError, match='`x`'):
        quantizer.set_bounds(*search_bounds(torch.tensor(values), quantizer, CalibrationConfig(method=method)))


@given(st.sampled_from([50.5, 90, 99, 99.9, 100]), st.integers(2, 700), st.integers(0, 99))
def test_percentiles_lie_between_neighbours_of_the_sorted_values(percentile, size, seed):
    """By the definition in float64; 1e-6: float32."""
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    bounds = search_bounds(x, Quantizer(4), CalibrationConfig(method='percentile', percentile=percentile))
    ordered = sorted(x.double().tolist())
    for bound, fraction in zip(bounds, (1 - percentile / 100, percentile / 100)):
        position = fraction * (size - 1)
        low = min(int(position), size - 2)
        expected = ordered[low] + (position - low) * (ordered[low + 1] - ordered[low])
        assert float(bound) == pytest.approx(expected, abs=1e-6)


def test_percentiles_of_more_values_than_torch_accepts():
    """`torch.quantile` accepts at most 2^24 values; activations have more. Exact: integers."""
    x = torch.arange(2**24 + 1).float()
    lower, upper = search_bounds(x, Quantizer(4), CalibrationConfig(method='percentile', percentile=75))
    assert (float(lower), float(upper)) == (2**22, 3 * 2**22)


def test_lsq_starts_on_the_kept_values():
    x = torch.tensor([0.1, -0.2, 5.0, 0.3])
    keep = torch.tensor([True, True, False, True])
    config = CalibrationConfig(method='lsq')
    assert search_bounds(x, Quantizer(4), config, keep) == search_bounds(x[keep], Quantizer(4), config)


@pytest.mark.parametrize('search', ['auto', 'one', 'two'])
def test_rows_searched_together_have_the_bounds_of_each_alone(search):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(6, 40, generator=generator) ** 3
    rows[1], rows[2], rows[3] = 2.0, 0.0, rows[3].abs().clamp_max(0.2)
    config = CalibrationConfig(candidates=30, search=search)
    together = search_bounds(rows, Quantizer(3, channels=6), config)
    alone = [search_bounds(row[None], Quantizer(3, channels=1), config) for row in rows]
    for side in (0, 1):
        assert torch.allclose(together[side], torch.cat([bounds[side] for bounds in alone]), rtol=1e-6, atol=0)
