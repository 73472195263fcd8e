"""Quantized layers: near the float layer at 8 bits, and in exact orders the same numbers as integer arithmetic."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.quant import transform as transforms
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.functional.transform import TRANSFORMS
from compsrt_basicsr.quant.layers import QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers
from compsrt_basicsr.quant.transform import Transform

EXACT = ('auto', 'blocks', 'dct', 'random', 'none')
ORDER_KINDS = [(order, kind) for order in (60, 10, 7) for kind in (*EXACT, 'padded')]


def config(bits=8, **options):
    return QuantConfig(weight_bits=bits, act_bits=bits, **options)


def ready(layer, x):
    calibrate(layer, x, CalibrationConfig(), progress=False)
    return layer


def sqnr(reference, result):
    """Signal to quantization noise in dB."""
    return 10 * torch.log10(reference.square().sum() / (reference - result).square().sum()).item()


def observed(network, x):
    """Output with all quantizers looking on."""
    for quantizer in quantizers(network).values():
        quantizer.observer = lambda q, t: None
    try:
        return network(x)
    finally:
        for quantizer in quantizers(network).values():
            quantizer.observer = None


def build(kind, order, transform, **options):
    """A float layer, its quantized twin and an input."""
    torch.manual_seed(0)
    if kind == 'linear':
        layer, x = nn.Linear(order, 24), torch.randn(50, order)
        return layer, QuantLinear(layer, config(transform=transform, **options)), x
    if kind == 'split':
        layer, x = nn.Linear(order, 24), torch.randn(2, 25, order)
        return layer, QuantSplitLinear(layer, config(transform=transform, **options), ('q', 'k', 'v')), x
    layer, x = nn.Conv2d(order, 8, 3, stride=2, padding=1), torch.randn(2, order, 9, 7)
    return layer, QuantConv2d(layer, config(transform=transform, **options)), x


def joined(result):
    return torch.cat(result, -1) if isinstance(result, list) else result


def test_joined_parts_are_the_parts_side_by_side():
    _, quant, x = build('split', 12, 'auto')
    ready(quant, x)
    parts = quant(x)
    quant.joined = True
    assert torch.equal(quant(x), torch.cat(parts, -1))


@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
@pytest.mark.parametrize('kind', ['linear', 'split', 'conv'])
@pytest.mark.parametrize(('order', 'transform'), [(60, 'auto'), (10, 'auto'), (10, 'padded'), (7, 'auto')])
def test_near_the_float_layer_at_8_bits(kind, order, transform, granularity):
    """SQNR above 30 dB: 8 bits of a normal tensor give about 40 dB, two operands and clipped tails cost the rest."""
    layer, quant, x = build(kind, order, transform, granularity=granularity)
    with torch.no_grad():
        reference, result = layer(x), joined(ready(quant, x)(x))
    assert 30 < sqnr(reference, result) < 70


@pytest.mark.parametrize('kind', ['linear', 'split', 'conv'])
@pytest.mark.parametrize(('order', 'transform'), ORDER_KINDS)
def test_observed_equals_the_float_layer(kind, order, transform):
    """The transforms cancel; 1e-5: float32 sums of 60 to 540 numbers of size 1."""
    layer, quant, x = build(kind, order, transform)
    assert torch.allclose(joined(observed(quant, x)), layer(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize('kind', ['linear', 'split', 'conv'])
def test_fewer_bits_are_worse(kind):
    results = []
    for bits in (2, 3, 4, 6, 8):
        layer, quant, x = build(kind, 12, 'auto')
        for quantizer in quantizers(quant).values():
            quantizer.bits = bits
        with torch.no_grad():
            results.append(sqnr(layer(x), joined(ready(quant, x)(x))))
    assert results == sorted(results)


def integer_product(x, w, x_quantizer, w_quantizer):
    """x w^T from int64 codes, with both zero points folded:

    s_x s_w q_x q_w^T + s_x Z_w sum q_x + Z_x s_w sum q_w + K Z_x Z_w.
    """
    q_x, q_w = x_quantizer.codes(x).to(torch.int64), w_quantizer.codes(w).to(torch.int64)
    (s_x, z_x), (s_w, z_w) = (tuple(t.detach().double() for t in q.grid()) for q in (x_quantizer, w_quantizer))
    sums_w = (s_w * q_w.sum(-1, keepdim=True)).transpose(-1, -2)
    scaled = (q_x @ q_w.transpose(-1, -2)) * (s_x * s_w.transpose(-1, -2) if s_w.ndim else s_x * s_w)
    offset = z_w.transpose(-1, -2) if z_w.ndim else z_w
    return scaled + s_x * offset * q_x.sum(-1, keepdim=True) + z_x * sums_w + x.shape[-1] * z_x * offset


def assert_same_number(result, expected):
    """1e-5 relative to the largest: float32 against exact integers, sums of up to 120 products."""
    assert float((result.double() - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
@pytest.mark.parametrize('bits', [2, 4, 8])
@pytest.mark.parametrize(('d', 'out'), [(60, 60), (60, 120), (120, 60)])
def test_linear_equals_integer_arithmetic(d, out, bits, granularity):
    torch.manual_seed(d + out + bits)
    x = torch.randn(2, 30, d) + 0.3
    quant = ready(QuantLinear(nn.Linear(d, out), config(bits, granularity=granularity)), x)
    assert quant.transform.projection is None
    with torch.no_grad():
        expected = (
            integer_product(quant.transform(x), quant.transformed_weight(), quant.act_quantizer, quant.weight_quantizer)
            + quant.bias.double()
        )
        assert_same_number(quant(x), expected)


@pytest.mark.parametrize('bits', [2, 4, 8])
def test_qk_product_equals_integer_arithmetic(bits):
    """Head size 10: no Hadamard matrix, a conference matrix in its place."""
    torch.manual_seed(bits)
    q, k = torch.randn(3, 64, 10), torch.randn(3, 64, 10) - 0.2
    transform = Transform('auto', 10)
    assert transform.kind == 'conference'
    q_quantizer, k_quantizer = Quantizer(bits), Quantizer(bits)
    for quantizer, operand in ((q_quantizer, transform(q)), (k_quantizer, transform(k))):
        quantizer.set_bounds(operand.min() * 0.8, operand.max() * 0.8)
    with torch.no_grad():
        result = q_quantizer(transform(q)) @ transform.project(k_quantizer(transform(k))).transpose(-1, -2)
        expected = integer_product(transform(q), transform(k), q_quantizer, k_quantizer)
    assert_same_number(result, expected)


@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
@pytest.mark.parametrize('bits', [2, 4, 8])
def test_convolution_equals_integer_arithmetic(bits, granularity):
    """Unfolded into a product of rows of 12 x 3 x 3 codes; without padding, whose zeros have no code."""
    torch.manual_seed(bits)
    x = torch.randn(2, 12, 9, 8)
    quant = ready(QuantConv2d(nn.Conv2d(12, 6, 3), config(bits, granularity=granularity)), x)
    with torch.no_grad():
        columns = F.unfold(quant.transform.forward_channels(x), 3).transpose(1, 2)
        weight = quant.transformed_weight().flatten(1)
        product = integer_product(columns, weight, quant.act_quantizer, quant.weight_quantizer)
        expected = (product + quant.bias.double()).transpose(1, 2).reshape(2, 6, 7, 6)
        assert_same_number(quant(x), expected)


def test_padded_form_is_not_the_integer_product():
    """The projection between the operands changes the numbers; exact transforms have none."""
    torch.manual_seed(0)
    x = torch.randn(30, 60)
    quant = ready(QuantLinear(nn.Linear(60, 60, bias=False), config(4, transform='padded')), x)
    with torch.no_grad():
        product = integer_product(
            quant.transform(x), quant.transformed_weight(), quant.act_quantizer, quant.weight_quantizer
        )
        assert float((quant(x) - product).norm() / product.norm()) > 1e-3


def test_padded_form_is_inverse_and_crop():
    """(x_h T^T)(w_h T^T)^T literally, as published; 1e-5: float32."""
    torch.manual_seed(0)
    x = torch.randn(30, 60)
    quant = ready(QuantLinear(nn.Linear(60, 24), config(4, transform='padded', code_range='paper')), x)
    back = quant.transform.matrix.T
    with torch.no_grad():
        literal_x = quant.act_quantizer(x @ quant.transform.matrix) @ back
        literal_w = quant.weight_quantizer(quant.weight @ quant.transform.matrix) @ back
        assert torch.allclose(quant(x), literal_x @ literal_w.T + quant.bias, rtol=0, atol=1e-5)
        assert torch.allclose(quant.transform.invert(quant.transform(x)), x, rtol=0, atol=1e-5)


def test_split_parts_are_quantized_separately():
    """A fused layer equals three linear layers; 1e-6: the same sums."""
    layer, quant, x = build('split', 12, 'auto')
    ready(quant, x)
    with torch.no_grad():
        results = quant(x)
        for i, part in enumerate('qkv'):
            third = nn.Linear(12, 8)
            third.weight.copy_(layer.weight[8 * i : 8 * i + 8])
            third.bias.copy_(layer.bias[8 * i : 8 * i + 8])
            alone = ready(QuantLinear(third, config()), x)
            assert torch.allclose(results[i], alone(x), rtol=0, atol=1e-6), part


def test_border_of_a_padded_convolution_is_exactly_zero():
    """Also if the grid of the quantizer has no zero."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(12, 4, 3, padding=1, bias=False), torch.zeros(1, 12, 5, 5)
    x[..., 2, 2] = 1.0
    quant = ready(QuantConv2d(layer, config(2, transform='none')), torch.rand(4, 12, 5, 5) + 0.5)
    with torch.no_grad():
        activation = F.pad(quant.act_quantizer(x), (1, 1, 1, 1))
        weight = quant.weight_quantizer(layer.weight.flatten(1)).view_as(layer.weight)
        assert torch.allclose(quant(x), F.conv2d(activation, weight), rtol=0, atol=1e-6)
        assert float(quant.act_quantizer(x).min()) > 0.1  # so the border differs from the inside


def test_grouped_convolution_is_not_transformed():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(12, 12, 3, groups=3, dilation=2), torch.randn(2, 12, 9, 9)
    quant = ready(QuantConv2d(layer, config()), x)
    assert quant.transform.kind == 'none'
    with torch.no_grad():
        assert sqnr(layer(x), quant(x)) > 30


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('kind', [QuantLinear, QuantSplitLinear])
def test_parameters_keep_their_names_and_identity(kind, bias):
    layer = nn.Linear(12, 12, bias=bias)
    quant = kind(layer, config(), ('q', 'k', 'v')) if kind is QuantSplitLinear else kind(layer, config())
    assert quant.weight is layer.weight and quant.bias is layer.bias
    assert joined(observed(quant, torch.randn(3, 12))).shape == (3, 12)


# The cache of the transformed weight


@pytest.fixture
def counted(monkeypatch):
    """A calibrated frozen layer, an input, and the number of times its weight was transformed."""
    calls = []
    compute = transforms.transformed
    monkeypatch.setattr(transforms, 'transformed', lambda *args: calls.append(1) or compute(*args))
    torch.manual_seed(0)
    x = torch.randn(5, 12)
    quant = QuantLinear(nn.Linear(12, 12), config()).requires_grad_(False)
    ready(quant, x)
    calls.clear()
    quant._transformed = transforms.TransformedWeight()
    return quant, x, calls


def fresh(quant, x):
    """Output with nothing cached."""
    return copy.deepcopy(quant)(x)


def test_frozen_weight_is_transformed_once(counted):
    quant, x, calls = counted
    for _ in range(3):
        quant(x)
    assert len(calls) == 1


def in_place(quant):
    quant.weight.mul_(1.5)


def by_data(quant):
    quant.weight.data = quant.weight.data * 1.5


def by_state_dict(quant):
    quant.load_state_dict({**quant.state_dict(), 'weight': quant.weight * 1.5})


def by_assignment(quant):
    quant.load_state_dict({**quant.state_dict(), 'weight': quant.weight * 1.5}, assign=True)


def by_new_parameter(quant):
    quant.weight = nn.Parameter(quant.weight * 1.5, requires_grad=False)


def by_data_twice(quant):
    for _ in range(2):  # the second may lie where the first weight lay
        quant.weight.data = quant.weight.data * 1.5


@pytest.mark.parametrize('change', [in_place, by_data, by_data_twice, by_state_dict, by_assignment, by_new_parameter])
def test_changed_weight_is_transformed_again(counted, change):
    quant, x, calls = counted
    before = quant(x)
    with torch.no_grad():
        change(quant)
    after = quant(x)
    assert len(calls) == 2
    assert not torch.equal(before, after)
    assert torch.equal(after, fresh(quant, x))


def test_trained_weight_is_transformed_each_time_and_gets_its_gradient(counted):
    quant, x, calls = counted
    quant(x)
    quant.weight.requires_grad_(True)
    for _ in range(2):
        quant(x).square().sum().backward()
    assert len(calls) == 3
    assert quant.weight.grad is not None and quant.weight.grad.any()


def test_cached_weight_carries_no_graph(counted):
    quant, x, _ = counted
    for parameter in quant.weight_quantizer.parameters():
        parameter.requires_grad_(True)
    for _ in range(2):  # a graph kept from the first pass would be freed in the second
        quant(x).sum().backward()
    assert not quant.transformed_weight().requires_grad


@pytest.mark.parametrize('code_range', ['strict', 'paper'])
def test_cache_filled_in_inference_mode_serves_training_later(counted, code_range):
    quant, x, _ = counted
    quant.weight_quantizer.code_range = code_range
    with torch.inference_mode():
        quant(x)
    for parameter in quant.act_quantizer.parameters():
        parameter.requires_grad_(True)
    for parameter in quant.weight_quantizer.parameters():
        parameter.requires_grad_(True)
    quant(x).sum().backward()
    assert quant.weight_quantizer.upper.grad is not None


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=['deepcopy', 'pickle'])
def test_copies_work_and_do_not_share_the_cache(counted, copied):
    quant, x, _ = counted
    expected = quant(x)
    other = copied(quant)
    assert torch.equal(other(x), expected)
    with torch.no_grad():
        other.weight.mul_(2)
    assert torch.equal(quant(x), expected) and not torch.equal(other(x), expected)


def test_cache_and_matrix_stay_out_of_the_state_dict(counted):
    quant, x, _ = counted
    quant(x)
    owners = {key.split('.')[0] for key in quant.state_dict()}
    assert owners == {'weight', 'bias', 'weight_quantizer', 'act_quantizer'}


# Compilation and autocast


def small_network(trained):
    torch.manual_seed(0)
    x = torch.randn(40, 12)
    network = nn.Sequential(
        QuantLinear(nn.Linear(12, 20), config(4)), nn.GELU(), QuantLinear(nn.Linear(20, 6), config(4))
    )
    ready(network, x)
    if not trained:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_('quantizer' in name)
    return network, x


def test_compiled_network_gives_the_same_output_and_gradients():
    """1e-6 relative to the largest: the same kernels, possibly in another order."""
    network, x = small_network(True)
    compiled = torch.compile(network, backend='aot_eager')
    results = []
    for run in (network, compiled):
        network.zero_grad()
        y = run(x)
        y.square().sum().backward()
        results.append([y.detach(), *(p.grad.clone() for p in network.parameters() if p.requires_grad)])
    assert len(results[0]) > 8
    for eager, other in zip(*results):
        assert float((eager - other).abs().max()) <= 1e-6 * float(eager.abs().max().clamp_min(1))


def test_autocast_quantizes_in_float32():
    """With bfloat16 autocast, quantizers receive and return float32, and the first layer's codes do not change."""
    network, x = small_network(False)
    first = network[0].act_quantizer
    seen = []
    handles = [
        q.register_forward_hook(lambda m, inputs, y: seen.append((m, inputs[0], y)))
        for q in quantizers(network).values()
    ]
    expected = first.codes(network[0].transform(x))
    with torch.autocast('cpu', torch.bfloat16):
        y = network(x)
    for handle in handles:
        handle.remove()
    assert len(seen) == 4
    assert all(result.dtype == torch.float32 and torch.isfinite(result).all() for _, _, result in seen)
    codes = next(m.codes(t) for m, t, _ in seen if m is first)
    assert torch.equal(codes, expected)
    assert sqnr(network(x), y.float()) > 15  # bfloat16 has 8 significant bits; 4-bit codes may flip by one


def test_every_transform_is_tested():
    assert {kind for _, kind in ORDER_KINDS} | {'hadamard', 'conference'} == set(TRANSFORMS)
