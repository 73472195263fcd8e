"""Products of two activations: found in the code of any module, and computed with quantized operands."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.prepare import make_attention_plain_
from compsrt_basicsr.quant.products import ProductKind, quantize_products_
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.structure import Structure, trace

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def by_matmul(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.matmul(torch.softmax(q @ k.transpose(-2, -1), -1), v)


def by_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.einsum('b i d, b j d -> b i j', q, k).softmax(-1)
    return torch.einsum('b i j, b j d -> b i d', weights, v)


def by_bmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q.bmm(k.mT).softmax(-1).bmm(v)


def transposed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (v.mT @ (q @ k.mT).softmax(-1).mT).mT


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


FORMS = {'matmul': by_matmul, 'einsum': by_einsum, 'bmm': by_bmm, 'transposed': transposed, 'fused': fused}


class Attention(nn.Module):
    """Attention in windows of 4x4 pixels, and a product with a parameter, `table`."""

    def __init__(self, attend: Attend, channels: int = 12) -> None:
        super().__init__()
        self.attend, self.qkv = attend, nn.Linear(channels, 3 * channels)
        self.table = nn.Parameter(torch.randn(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        windows = x.view(batch, channels, height // 4, 4, width // 4, 4).permute(0, 2, 4, 3, 5, 1)
        tokens = windows.reshape(-1, 16, channels)
        y = self.attend(*self.qkv(tokens).chunk(3, -1)) @ self.table
        y = y.view(batch, height // 4, width // 4, 4, 4, channels).permute(0, 5, 1, 3, 2, 4)
        return y.reshape(x.shape)


class Net(nn.Module):
    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.attention = Attention(attend)
        self.last = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(y + self.attention(y))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize('form', FORMS)
def test_products_of_attention_are_found_in_any_form(form: str) -> None:
    found = trace(Net(FORMS[form]), 3, (16, 24))
    side = 'right' if form == 'transposed' else 'left'
    kinds = [ProductKind(12), ProductKind(weights=side), ProductKind(12, constant='right')]
    assert found.structure.products == {'attention': kinds}
    tokens = 16 * 16
    assert found.multiplications['attention.quant_products.0'] == tokens * 16 * 12
    assert found.multiplications['attention.quant_products.1'] == tokens * 16 * 12
    assert found.multiplications['attention.quant_products.2'] == tokens * 12 * 12
    assert found.multiplications['attention.qkv'] == tokens * 12 * 36
    assert found.multiplications['first'] == tokens * 27 * 12


@pytest.mark.parametrize('transform', ['none', 'auto'])
@pytest.mark.parametrize('form', FORMS)
def test_quantized_products_approach_the_network_as_bits_grow(form: str, transform: str) -> None:
    network, image = Net(FORMS[form]).eval(), torch.rand(2, 3, 16, 16)
    errors = []
    with torch.no_grad():
        expected = network(image)
        for bits in (3, 8):
            config = QuantConfig(weight_bits=bits, act_bits=bits, transform=transform)
            quantized = deepcopy(network)
            quantize_products_(
                quantized.attention, trace(network, 3, (16, 24)).structure.products['attention'], config, 'attention'
            )
            assert len(quantizers(quantized)) == 6
            calibrate(quantized, image, CalibrationConfig(method='minmax'), progress=False)
            errors.append(float((quantized(image) - expected).abs().max()))
    assert 0 < errors[1] < errors[0] / 8
    assert errors[1] < 0.015  # of 8 bits, after three products


def test_weights_of_a_softmax_sum_to_one_whatever_their_codes() -> None:
    network = Net(by_matmul).eval()
    kinds = trace(network, 3, (16, 24)).structure.products['attention']
    quantize_products_(network.attention, kinds, QuantConfig(weight_bits=2, act_bits=2), 'attention')
    calibrate(network, torch.rand(1, 3, 16, 16), CalibrationConfig(method='minmax'), progress=False)
    seen = []
    values = network.attention.quant_products[1]
    values.right_quantizer.forward = lambda x: torch.ones_like(x)  # type: ignore[method-assign]
    values.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        network(torch.rand(1, 3, 16, 16))
    assert torch.allclose(seen[0], torch.ones_like(seen[0]))


def test_copies_have_their_own_quantizers_and_gradients_reach_every_parameter() -> None:
    network = Net(by_matmul)
    kinds = trace(network, 3, (16, 24)).structure.products['attention']
    quantize_products_(network.attention, kinds, QuantConfig(), 'attention')
    calibrate(network, torch.rand(1, 3, 16, 16), CalibrationConfig(method='minmax'), progress=False)
    copy = deepcopy(network)
    copy(torch.rand(1, 3, 16, 16)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in copy.parameters())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_structure_survives_its_record() -> None:
    kinds = (ProductKind(12), ProductKind(weights='left'), ProductKind(constant='right', joint=True))
    structure = Structure({'a': kinds}, (('b', 'c'),), ('d',), {'a': ('a.e',)})
    assert Structure.from_json(structure.to_json()) == structure
    older = {'products': {'a': [[12, ''], [0, 'left']]}, 'folds': [], 'unused': []}
    assert Structure.from_json(older) == Structure({'a': kinds[:2]})


class Modulated(nn.Module):
    """Two modules whose products nest, one with a number of calls that depends on the size of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Net(by_matmul)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        for _ in range(x.shape[-1] // 8):
            y = y @ y.mT @ y
        return y


def test_products_whose_number_depends_on_the_size_stay_float() -> None:
    assert list(trace(Modulated(), 3, (16, 24)).structure.products) == ['inner.attention']


def test_nested_products_do_not_meet() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Net(by_matmul)

        def forward(self, x: Tensor) -> Tensor:
            y = self.inner(x)
            return y @ y.mT @ self.inner(y)

    network = Outer().eval()
    structure = trace(network, 3, (16, 24)).structure
    assert {name: len(kinds) for name, kinds in structure.products.items()} == {'inner.attention': 3, '': 2}
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        expected = network(image)
    for name, kinds in structure.products.items():
        config = QuantConfig(weight_bits=8, act_bits=8)
        quantize_products_(network.get_submodule(name), kinds, config, name)
        calibrate(network, image, CalibrationConfig(method='minmax'), progress=False)
        with torch.no_grad():  # also while only one of the two modules is quantized
            assert torch.allclose(network(image), expected, atol=0.05 * float(expected.abs().max()))


def test_more_products_than_recorded_are_refused() -> None:
    network = Net(by_matmul).eval()
    quantize_products_(network.attention, [ProductKind(12)], QuantConfig(), 'attention')
    with pytest.raises(CompSRTError, match='attention'):
        calibrate(network, torch.rand(1, 3, 16, 16), CalibrationConfig(method='minmax'), progress=False)


class Functions(nn.Module):
    """Passes the weight of a layer to a function, with a bias of its own; a weight that it owns; a computed kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.qkv = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 12, bias=False)
        self.shift, self.table = nn.Parameter(torch.randn(12)), nn.Parameter(torch.randn(8, 12))
        self.kernel = nn.Linear(8, 3 * 8 * 9)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = F.linear(input=x.movedim(1, -1), weight=self.qkv.weight, bias=self.shift)
        y = F.linear(y, self.table).movedim(-1, 1)
        kernels = self.kernel(x.mean((2, 3))).view(-1, 8, 3, 3)
        out = F.conv2d(y.reshape(1, -1, *y.shape[2:]), kernels, padding=1, groups=len(y))
        return out.view(len(y), 3, *y.shape[2:])


def test_functions_of_layers_are_quantized_like_layers_and_products() -> None:
    from compsrt_basicsr.archs.compsrt_net_arch import quantize_network_

    network, image = Functions().eval(), torch.rand(2, 3, 16, 16)
    found = trace(network, 3, (16, 24))
    assert found.structure.called == {'': ('qkv',)} and not found.structure.unused
    kinds = [ProductKind(12, constant='right'), ProductKind(joint=True)]
    assert found.structure.products == {'': kinds}
    pixels = 16 * 16
    assert found.multiplications == {
        'first': pixels * 27 * 8,
        'qkv': pixels * 8 * 12,
        '.quant_products.0': pixels * 12 * 8,
        'kernel': 8 * 3 * 8 * 9,
        '.quant_products.1': pixels * 8 * 9 * 3,
    }
    with torch.no_grad():
        expected = network(image)
        errors = []
        for bits in (3, 8):
            student = deepcopy(network)
            options = {'quantize_convs': True, 'quantize_products': True, 'quantize_head_tail': True}
            config = QuantConfig(weight_bits=bits, act_bits=bits, equalize=True, transform='random', **options)
            quantize_network_(student, config, {'type': 'x'})
            calibrate(student, image, CalibrationConfig(method='minmax', reconstruct=True), progress=False)
            assert set(quantized_layers(student)) == {'first', 'qkv', 'kernel'}
            errors.append(float((student(image) - expected).abs().max() / expected.abs().max()))
    assert errors[1] < errors[0] / 8 and errors[1] < 0.04
    again = deepcopy(student)
    again(image).sum().backward()
    assert all(p.grad is not None for p in again.parameters() if p.requires_grad)


@pytest.mark.parametrize('batch_first', [False, True])
@pytest.mark.parametrize('bias', [False, True])
def test_multi_head_attention_becomes_linears_and_products(bias: bool, batch_first: bool) -> None:
    attention = nn.MultiheadAttention(8, 2, bias=bias, batch_first=batch_first).eval()
    network = nn.Sequential(attention)
    with torch.no_grad():
        for parameter in attention.parameters():
            nn.init.normal_(parameter)
    make_attention_plain_(network, ['0.out_proj'])
    assert network[0] is attention
    make_attention_plain_(network)
    plain = network[0]
    query, keys, values = torch.randn(3, 5, 8), torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    tensors = [x if batch_first else x.transpose(0, 1) for x in (query, keys, values)]
    hidden = torch.tensor([[False] * 3 + [True]] * 3)
    for options in (
        {},
        {'need_weights': False, 'attn_mask': torch.randn(5, 4)},
        {'attn_mask': torch.rand(6, 5, 4) > 0.8, 'average_attn_weights': False},
        {'key_padding_mask': hidden},
    ):
        for ours, theirs in zip(plain(*tensors, **options), attention(*tensors, **options)):
            assert (ours is theirs is None) or torch.allclose(ours, theirs, atol=1e-5)
    unbatched = (query[0], keys[0], values[0])
    assert torch.allclose(plain(*unbatched)[0], attention(*unbatched)[0], atol=1e-5)
    for linear in (plain.q, plain.k, plain.v):
        nn.init.zeros_(linear.weight)
    network.load_state_dict({f'0.{name}': value for name, value in attention.state_dict().items()})
    assert torch.allclose(plain(*tensors)[0], attention(*tensors)[0], atol=1e-5)
