"""Integer execution of layers: equal to fake quantization, and the fallback to it."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.integer.execution import set_execution_
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.code_usage import counting_codes
from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.layers import QuantLinear, QuantSplitLinear

WAYS = ['kernel', 'torch']


@pytest.fixture(params=WAYS)
def way(request):
    request.getfixturevalue('kernel_home')
    if request.param == 'torch':
        request.getfixturevalue('no_kernels')
    return request.param


def layer(order=60, out=24, parts=(), **options):
    torch.manual_seed(0)
    config = QuantConfig(**options)
    linear = nn.Linear(order, out, bias=options.get('weight_bits') != 3)
    result = QuantSplitLinear(linear, config, parts) if parts else QuantLinear(linear, config)
    calibrate(result, torch.randn(100, order), CalibrationConfig(candidates=10), progress=False)
    return result.eval().requires_grad_(False)


def same(result, expected):
    """Equal within 1e-5 of the largest output; another code would make a larger difference."""
    return ((result - expected).abs().max() <= 1e-5 * expected.abs().max()).item()


@pytest.mark.parametrize('transform', ['auto', 'blocks', 'dct', 'none'])
@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
@pytest.mark.parametrize('bits', [(2, 2), (3, 5), (8, 8)])
def test_linear_equals_fake_quantization(way, transform, granularity, bits):
    net = layer(transform=transform, granularity=granularity, weight_bits=bits[0], act_bits=bits[1])
    x = torch.randn(3, 7, 60, generator=torch.Generator().manual_seed(5))
    fake = net(x)
    assert set_execution_(net, 'integer').layers == {'': way}
    assert same(net(x), fake)
    assert not torch.equal(net(x), fake)  # computed on codes
    set_execution_(net, 'fake')
    assert torch.equal(net(x), fake)


@pytest.mark.parametrize(
    ('kind', 'order'), [*(('auto', n) for n in (4, 8, 10, 12, 24, 64, 120)), *(('blocks', n) for n in (36, 48, 60))]
)
def test_transforms_of_every_structure_equal_fake_quantization(kernel_home, kind, order):
    """Hadamard matrices of one table, of several, halved once and to the end, another matrix; blocks of each kind."""
    net, x = layer(order, transform=kind), torch.randn(37, order, generator=torch.Generator().manual_seed(5))
    fake = net(x)
    set_execution_(net, 'integer')
    assert same(net(x), fake) and not torch.equal(net(x), fake)


def test_fake_tensors_are_not_read_by_the_kernels(kernel_home):
    net, x = layer(60), torch.randn(2, 60)
    set_execution_(net, 'integer')
    net(x)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert net(mode.from_tensor(x)).shape == (2, 24)


def test_split_linear_equals_fake_quantization(way):
    net, x = layer(out=36, parts=('q', 'k', 'v')), torch.randn(2, 9, 60)
    fake = net(x)
    set_execution_(net, 'integer')
    assert [same(a, b) for a, b in zip(net(x), fake, strict=True)] == [True] * 3
    net.joined = True
    assert same(net(x), torch.cat(fake, -1))


@given(order=st.integers(1, 40), out=st.integers(1, 40), rows=st.integers(1, 20), bits=st.integers(2, 8))
def test_any_size_equals_fake_quantization(kernel_home, order, out, rows, bits):
    """Any order, one row, one output."""
    net, x = layer(order, out, weight_bits=bits, act_bits=bits, transform='none'), torch.randn(rows, order)
    fake = net(x)
    set_execution_(net, 'integer')
    assert ((net(x) - fake).abs().max() <= 1e-5 * (1 + fake.abs().max())).item()  # an output may be nearly 0


def test_changed_parameters_are_noticed(way):
    net, x = layer(), torch.randn(5, 60)
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.weight_quantizer.upper.mul_(0.5)
        other.bias.add_(1)
    set_execution_(net, 'integer')
    first = net(x)
    net.load_state_dict(other.state_dict())
    assert same(net(x), other(x)) and not same(net(x), first)
    net.bias = nn.Parameter(net.bias + 1, requires_grad=False)
    assert same(net(x), other(x) + 1)


def test_input_of_another_size_is_refused(way):
    net = layer()
    set_execution_(net, 'integer')
    with pytest.raises(RuntimeError, match='shape'):
        net(torch.randn(5, 59))


def test_input_on_another_device_is_left_to_torch(way):
    """Torch raises an error; the kernels would read invalid memory."""
    net = layer()
    set_execution_(net, 'integer')
    with pytest.raises(RuntimeError):
        net(torch.empty(5, 60, device='meta'))


@pytest.mark.parametrize('replicate', [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_independent(way, replicate):
    net, x = layer(), torch.randn(5, 60)
    set_execution_(net, 'integer')
    before = net(x)
    twin = replicate(net)
    assert torch.equal(twin(x), before)
    with torch.no_grad():
        twin.bias.add_(1)
    assert torch.equal(net(x), before) and same(twin(x), before + 1)


def test_state_dict_does_not_change(way):
    net = layer()
    names = list(net.state_dict())
    set_execution_(net, 'integer')
    assert list(net.state_dict()) == names


def test_training_and_gradients_use_fake_quantization(way):
    net, x = layer(), torch.randn(5, 60)
    fake = net(x)
    set_execution_(net, 'integer')
    assert torch.equal(net.train()(x), fake)
    net.eval()
    assert torch.equal(net(x.clone().requires_grad_()), fake)
    net.act_quantizer.lower.requires_grad_()
    assert net(x).requires_grad and torch.equal(net(x), fake)
    with torch.no_grad():
        assert not torch.equal(net(x), fake)


def test_hooks_and_observers_see_fake_quantization(way):
    net, x = layer(), torch.randn(50, 60)
    set_execution_(net, 'integer')
    with counting_codes(net) as counts:
        net(x)
    assert counts['act_quantizer'].used == 16
    calibrate(net, 2 * x, CalibrationConfig(method='minmax'), progress=False)
    assert net.act_quantizer.bounds()[1] > 4  # the observer received the input


def test_uncalibrated_layers_are_an_error(way):
    net = QuantLinear(nn.Linear(60, 8), QuantConfig(), 'body').eval()
    set_execution_(net, 'integer')
    with torch.no_grad(), pytest.raises(CompSRTError, match=r'`body\.\w+` is not calibrated'):
        net(torch.randn(3, 60))


def test_nan_and_autocast_and_no_rows(way):
    net, x = layer(), torch.randn(4, 60)
    set_execution_(net, 'integer')
    expected = net(x)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(net(x), expected)
    x[2, 0] = torch.nan
    assert torch.isnan(net(x)).all(1).tolist() == [False, False, True, False]
    assert net(x[:0]).shape == (0, 24)


def test_convolutions_stay_fake_and_are_named(kernel_home):
    net = nn.Sequential(QuantLinear(nn.Linear(4, 4), QuantConfig()), QuantConv2d(nn.Conv2d(4, 4, 3), QuantConfig()))
    report = set_execution_(net, 'integer')
    assert report.layers['0'] == 'kernel' and report.layers['1'].startswith('fake: convolutions')
    assert str(report).startswith('1 kernel, 1 fake: convolutions')


@pytest.mark.parametrize(
    ('options', 'reason'),
    [({'code_range': 'paper'}, 'paper range'), ({'transform': 'padded'}, 'padded transform')],
)
def test_formulas_that_cannot_run_on_codes_are_refused(options, reason):
    with pytest.raises(CompSRTError, match=f'QuantLinear .*{reason}'):
        set_execution_(QuantLinear(nn.Linear(60, 4), QuantConfig(**options)), 'integer')


def test_errors():
    with pytest.raises(CompSRTError, match=r'`execution` .*Did you mean `integer`'):
        set_execution_(nn.Identity(), 'integr')
    with pytest.raises(CompSRTError, match=r'Identity .*no quantized layer'):
        set_execution_(nn.Identity(), 'integer')
