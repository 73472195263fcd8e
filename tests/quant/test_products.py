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
from compsrt_basicsr.quant.calibrate import calibrate
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
    """Attention in windows of 4x4 pixels; `table` is a product with a parameter, which is no activation."""

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
    assert found.structure.products == {'attention': [ProductKind(12, None), ProductKind(None, side)]}
    tokens = 16 * 16
    assert found.multiplications['attention.quant_products.0'] == tokens * 16 * 12
    assert found.multiplications['attention.quant_products.1'] == tokens * 16 * 12
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
            assert len(quantizers(quantized)) == 4
            calibrate(quantized, image, CalibrationConfig(method='minmax'), progress=False)
            errors.append(float((quantized(image) - expected).abs().max()))
    assert 0 < errors[1] < errors[0] / 8
    assert errors[1] < 0.01


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
    structure = Structure({'a': (ProductKind(12, None), ProductKind(None, 'left'))}, (('b', 'c'),), ('d',))
    assert Structure.from_json(structure.to_json()) == structure


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
    assert {name: len(kinds) for name, kinds in structure.products.items()} == {'inner.attention': 2, '': 2}
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        expected = network(image)
    for name, kinds in structure.products.items():
        config = QuantConfig(weight_bits=8, act_bits=8)
        quantize_products_(network.get_submodule(name), kinds, config, name)
    calibrate(network, image, CalibrationConfig(method='minmax'), progress=False)
    with torch.no_grad():
        assert torch.allclose(network(image), expected, atol=0.05 * float(expected.abs().max()))
