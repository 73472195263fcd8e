"""The quantizer module: calibration, grid, learning, loading, and the codes it uses."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.code_usage import CodeUsage, counting_codes, summarize
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers

RANGES = ('strict', 'paper')
PARAMETERS = ('lower', 'upper', 'scale_offset', 'zero_offset')


def calibrated(bits=4, code_range='strict', channels=None, lower=-1.0, upper=2.0):
    quantizer = Quantizer(bits, code_range, channels, 'body.fc1.act_quantizer')
    shape = quantizer.lower.shape
    quantizer.set_bounds(torch.full(shape, lower), torch.full(shape, upper))
    return quantizer


@pytest.mark.parametrize('code_range', RANGES)
@pytest.mark.parametrize('bits', [2, 4, 8])
@pytest.mark.parametrize(('lower', 'upper'), [(-1.0, 2.0), (0.0, 1e-4), (-3e4, -1e4)])
def test_calibrated_grid_spans_the_bounds(code_range, bits, lower, upper):
    """s = (u - l)/(2^b - 1), Z = l, both ends and values beyond them quantize to the ends; 1e-6: float32."""
    quantizer = calibrated(bits, code_range, None, lower, upper)
    size = max(abs(lower), abs(upper))
    scale, zero = quantizer.grid()
    assert torch.allclose(scale, torch.tensor((upper - lower) / (2**bits - 1)), rtol=1e-5, atol=0)
    assert torch.allclose(zero, torch.tensor(lower), rtol=0, atol=1e-6 * size)
    assert all(abs(b.item() - e) < 1e-6 * size for b, e in zip(quantizer.bounds(), (lower, upper)))
    x = torch.tensor([lower - size, lower, upper, upper + size])
    ends = torch.tensor([lower, lower, upper, upper])
    assert torch.allclose(quantizer(x), ends, rtol=0, atol=4e-6 * size)
    assert quantizer.codes(x).tolist() == [0, 0, 2**bits - 1, 2**bits - 1]


@settings(max_examples=200)
@given(
    st.lists(st.floats(-(2.0**60), 2.0**60, width=32), min_size=4, max_size=4),
    st.sampled_from([2, 4, 8]),
    st.floats(2.0**-20, 2.0**20, width=32),
)
def test_strict_step_is_positive_for_any_parameters(values, bits, size):
    """For any values of the four parameters, s > 0 and the codes are in range."""
    quantizer = calibrated(bits, lower=-size, upper=size)
    with torch.no_grad():
        for name, value in zip(PARAMETERS, values):
            getattr(quantizer, name).fill_(value)
    scale, _ = quantizer.grid()
    assert scale > 0
    codes = quantizer.codes(torch.linspace(-2 * size, 2 * size, 64))
    assert codes.min() >= 0 and codes.max() <= 2**bits - 1


def test_a_step_can_leave_the_floor():
    """The gradient reaches the parameters while the step is at its floor."""
    quantizer = calibrated(2)
    with torch.no_grad():
        quantizer.scale_offset.fill_(-50.0)
    quantizer(torch.linspace(-3, 3, 50)).square().sum().backward()
    assert quantizer.scale_offset.grad != 0


@given(st.floats(-(2.0**-10), 2.0**-10, width=32))
def test_paper_step_is_never_zero(step):
    """Only a division by zero is prevented."""
    quantizer = calibrated(2, 'paper')
    with torch.no_grad():
        quantizer.scale_offset.fill_(step - 1.0)  # (2 - -1) / 3 = 1
    scale, _ = quantizer.grid()
    assert scale != 0
    assert torch.isfinite(quantizer(torch.linspace(-3, 3, 50))).all()


@pytest.mark.parametrize('channels', [None, 5])
def test_all_four_parameters_learn_in_strict_range(channels):
    torch.manual_seed(0)
    quantizer = calibrated(3, channels=channels)
    x = torch.randn(5, 40)
    (quantizer(x) - x).square().sum().backward()
    for name in PARAMETERS:
        gradient = getattr(quantizer, name).grad
        assert torch.isfinite(gradient).all() and (gradient != 0).all(), name


def test_zero_offset_does_not_learn_in_paper_range():
    """A property of the published formula, kept in paper range."""
    torch.manual_seed(0)
    quantizer = calibrated(3, 'paper')
    x = torch.randn(5, 40)
    (quantizer(x) - x).square().sum().backward()
    gradients = {name: float(getattr(quantizer, name).grad) for name in PARAMETERS}
    assert gradients.pop('zero_offset') == 0
    assert all(gradients.values())


@pytest.mark.parametrize('code_range', RANGES)
def test_learning_reduces_the_error(code_range):
    """Thirty steps of Adam from bounds that are much too wide."""
    torch.manual_seed(0)
    x = torch.randn(2000)
    quantizer = calibrated(3, code_range, lower=-8.0, upper=8.0)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=1e-2)
    errors = []
    for _ in range(30):
        optimizer.zero_grad()
        error = (quantizer(x) - x).square().mean()
        error.backward()
        optimizer.step()
        errors.append(float(error))
    assert errors[-1] < 0.95 * errors[0]


def test_one_grid_per_channel():
    """Each row is quantized as by a quantizer of its own, to the bit."""
    torch.manual_seed(0)
    x = torch.randn(3, 50) * torch.tensor([[0.01], [1.0], [100.0]])
    joint = Quantizer(4, 'strict', 3)
    joint.set_bounds(x.amin(1), x.amax(1))
    for row, result in zip(x, joint(x)):
        single = Quantizer(4)
        single.set_bounds(row.amin(), row.amax())
        assert torch.equal(single(row), result)


@pytest.mark.parametrize('code_range', RANGES)
@pytest.mark.parametrize('bits', [2, 8])
@given(value=st.floats(-1e6, 1e6) | st.sampled_from([0.0, 5.0, -1e-20, 1e30]))
def test_constants_survive(code_range, bits, value):
    """A constant tensor can be calibrated and keeps its value; 1e-5: the size of its step."""
    quantizer = Quantizer(bits, code_range)
    x = torch.full((6,), value)
    quantizer.set_bounds(x.amin(), x.amax())
    y = quantizer(x)
    assert torch.isfinite(y).all()
    assert torch.allclose(y, x, rtol=1e-5, atol=1e-7)
    assert all(torch.isfinite(p).all() for p in quantizer.state_dict().values())


def test_uncalibrated_is_an_error_that_names_the_quantizer():
    with pytest.raises(CompSRTError, match=r'`a\.b` is not calibrated'):
        Quantizer(4, name='a.b')(torch.zeros(3))


@pytest.mark.parametrize(
    ('lower', 'upper'), [(float('nan'), 1.0), (0.0, float('nan')), (-float('inf'), 1.0), (2.0, 1.0)]
)
def test_unusable_bounds_name_the_quantizer(lower, upper):
    with pytest.raises(CompSRTError, match=r'`a\.b`'):
        Quantizer(4, name='a.b').set_bounds(torch.tensor(lower), torch.tensor(upper))


@pytest.mark.parametrize('code_range', RANGES)
@pytest.mark.parametrize('channels', [None, 3])
def test_round_trip_of_the_state_dict(code_range, channels):
    torch.manual_seed(0)
    first = calibrated(3, code_range, channels)
    with torch.no_grad():
        for name in PARAMETERS:
            getattr(first, name).add_(0.1 * torch.rand(first.lower.shape))
    second = Quantizer(3, code_range, channels)
    second.load_state_dict(first.state_dict())
    x = torch.randn(3, 30)
    assert second.is_calibrated
    assert torch.equal(first(x), second(x))


def test_full_precision_state_dict_leaves_uncalibrated():
    network = nn.Sequential(nn.Linear(2, 2), calibrated())
    network.load_state_dict({'0.weight': torch.ones(2, 2), '0.bias': torch.ones(2)})
    assert not network[1].is_calibrated and not network[1].calibrated


def test_uncalibrated_state_dict_undoes_a_calibration():
    quantizer = calibrated()
    quantizer.load_state_dict(Quantizer(4).state_dict())
    assert not quantizer.is_calibrated


def test_incomplete_state_dict_is_refused():
    state = calibrated().state_dict()
    del state['upper']
    with pytest.raises(RuntimeError, match='upper'):
        Quantizer(4).load_state_dict(state)


def test_deepcopy_is_independent():
    first = calibrated()
    second = copy.deepcopy(first)
    with torch.no_grad():
        second.upper.add_(1)
    assert second.is_calibrated and not torch.equal(first.upper, second.upper)


def test_observer_sees_the_tensor_and_changes_nothing():
    quantizer, seen = Quantizer(4), []
    quantizer.observer = lambda q, x: seen.append((q, x))
    x = torch.randn(3)
    assert quantizer(x) is x
    assert seen == [(quantizer, x)]


@pytest.mark.parametrize('code_range', RANGES)
def test_bfloat16_autocast_changes_no_code(code_range):
    """Output in float32 and finite, equal to the bit."""
    quantizer = calibrated(4, code_range)
    x = torch.randn(100)
    with torch.autocast('cpu', torch.bfloat16):
        y = quantizer(x)
        codes = quantizer.codes(x)
        from_half = quantizer(x.bfloat16())
    assert y.dtype == from_half.dtype == torch.float32
    assert torch.equal(y, quantizer(x)) and torch.equal(codes, quantizer.codes(x))
    assert torch.equal(from_half, quantizer(x.bfloat16().float()))


class Pair(nn.Module):
    """Two quantizers, one with a grid per channel."""

    def __init__(self, bits, code_range):
        super().__init__()
        self.whole, self.rows = Quantizer(bits, code_range), Quantizer(bits, code_range, channels=4)

    def forward(self, x):
        return self.whole(x) + self.rows(x)


def aggressively_trained(code_range, steps=6):
    """Adam with lr 1.0 on a 2-bit pair: far more than any sane recipe."""
    torch.manual_seed(0)
    pair, x = Pair(2, code_range), torch.randn(4, 500)
    pair.whole.set_bounds(x.min(), x.max())
    pair.rows.set_bounds(x.amin(1), x.amax(1))
    optimizer = torch.optim.Adam(pair.parameters(), lr=1.0)
    for _ in range(steps):
        optimizer.zero_grad()
        (pair(x) - 2 * x).square().mean().backward()
        optimizer.step()
    return pair, x


def test_names_of_quantizers():
    assert list(quantizers(Pair(2, 'strict'))) == ['whole', 'rows']


@pytest.mark.parametrize('steps', [1, 3, 6])
def test_strict_never_uses_more_codes_than_its_bits_allow(steps):
    pair, x = aggressively_trained('strict', steps)
    with counting_codes(pair) as counts, torch.no_grad():
        pair(x)
    assert summarize(counts)['levels_over'] == 0
    assert all(count.used <= 4 and count.span <= 4 for count in counts.values())
    assert len(pair.whole(x).unique()) <= 4
    assert all(len(row.unique()) <= 4 for row in pair.rows(x))


def test_paper_may_use_more_codes_and_is_reported():
    pair, x = aggressively_trained('paper', 1)
    with torch.no_grad():
        pair.whole.scale_offset.fill_(-0.98 * float((pair.whole.upper - pair.whole.lower) / 3))
    with counting_codes(pair) as counts, torch.no_grad():
        pair(x)
    summary = summarize(counts)
    assert summary['levels_max'] > 4 and summary['levels_over'] >= 1
    assert counts['whole'].used == len(pair.whole.codes(x).unique())


def test_code_usage_over_two_passes():
    """Per channel, the maximum counts. The hooks are removed afterwards."""
    pair = Pair(4, 'strict')
    pair.whole.set_bounds(torch.tensor(0.0), torch.tensor(15.0))
    pair.rows.set_bounds(torch.zeros(4), torch.full((4,), 15.0))
    first = torch.tensor([[0.0, 1.0], [2.0, 2.0], [2.0, 2.0], [2.0, 2.0]])
    with counting_codes(pair) as counts:
        pair(first)
        pair(first + 5)
    pair(first + 9)
    assert counts['whole'].codes == [{0, 1, 2, 5, 6, 7}]
    assert counts['rows'].codes == [{0, 1, 5, 6}, {2, 7}, {2, 7}, {2, 7}]
    assert (counts['whole'].used, counts['whole'].span) == (6, 8)
    assert (counts['rows'].used, counts['rows'].span) == (4, 7)


def test_wide_spans_are_counted():
    """Codes more than 2^16 apart are not counted by bins."""
    quantizer = calibrated(2, 'paper')
    with torch.no_grad():
        quantizer.scale_offset.fill_(-1.0 + 1e-5)
    x = torch.linspace(-1, 2, 1000)
    with counting_codes(nn.Sequential(quantizer)) as counts:
        quantizer(x)
    assert counts['0'].used == len(quantizer.codes(x).unique()) > 900
    assert counts['0'].span > 2**16


def test_empty_usage():
    assert (CodeUsage(4).used, CodeUsage(4).span, summarize({})['levels_max']) == (0, 0, 0.0)
