"""Quantized weights or activations only: in layers, packing, ONNX and integer execution."""

import pytest
import torch
from tiny_networks import pictures, tiny_edsr, tiny_quantized, tiny_swinir
from torch import nn

from compsrt_basicsr.checkpoints.size import measure_size
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.integer.execution import set_execution_
from compsrt_basicsr.onnx.check import without_rounding
from compsrt_basicsr.packing.packed import load_packed, save_packed
from compsrt_basicsr.packing.size import WEIGHTS
from compsrt_basicsr.quant.code_usage import counting_codes
from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.layers import QuantizedLayer, QuantLinear
from compsrt_basicsr.quant.quantizer import quantizers


def run(network):
    with torch.no_grad():
        return network(pictures())


def of_weights(network):
    layers = (m for m in network.modules() if isinstance(m, QuantizedLayer))
    return {q for layer in layers for q in layer.weight_quantizers()}


@pytest.mark.parametrize('build', [tiny_quantized, lambda quant: tiny_edsr(**quant)])
def test_only_the_named_operand_has_quantizers(build):
    both, weights, activations = (
        set(quantizers(build({'operands': operands}))) for operands in ('both', 'weights', 'activations')
    )
    assert weights and activations and not weights & activations and weights | activations == both
    network = build({'operands': 'weights'})
    assert set(quantizers(network).values()) == of_weights(network)


def test_each_operand_costs_less_than_both():
    """At two bits, weights alone and activations alone have an error, and a smaller one than both."""
    full = run(tiny_swinir())
    error = {
        operands: float((run(tiny_quantized({'operands': operands, 'weight_bits': 2, 'act_bits': 2})) - full).norm())
        for operands in ('both', 'weights', 'activations')
    }
    assert 0 < error['weights'] < error['both'] and 0 < error['activations'] < error['both']


@pytest.mark.parametrize('transform', ['auto', 'padded'])
def test_float_operands_are_not_touched(transform):
    """A layer whose weights alone are quantized is linear in x."""
    layer = QuantLinear(nn.Linear(12, 8, bias=False), QuantConfig(operands='weights', transform=transform))
    layer.weight_quantizer.set_bounds(torch.tensor([-0.3]), torch.tensor([0.3]))
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(layer(2 * x), 2 * layer(x))


def test_weights_alone_pack_and_come_back(tmp_path):
    network = tiny_quantized({'operands': 'weights', 'weight_bits': 3})
    save_packed(network, tmp_path / 'x.safetensors')
    again = load_packed(tmp_path / 'x.safetensors')
    assert set(quantizers(again)) == set(quantizers(network))
    # the rest is stored in fp16: 11 bits of 0.1 to 1, some layers deep
    torch.testing.assert_close(run(again), run(network), rtol=0, atol=0.02)


def test_activations_alone_have_nothing_to_pack(tmp_path):
    network = tiny_quantized({'operands': 'activations'})
    with pytest.raises(CompSRTError, match=r'[Oo]nly activations'):
        save_packed(network, tmp_path / 'x.safetensors')
    torch.save({'params': network.state_dict()}, tmp_path / 'x.pth')
    size = measure_size(tmp_path / 'x.pth')
    assert size.bits is None and WEIGHTS not in [part.name for part in size.parts]


@pytest.mark.parametrize('operands', ['weights', 'activations'])
def test_onnx_computes_the_same(operands):
    onnxruntime = pytest.importorskip('onnxruntime')
    from compsrt_basicsr.checkpoints.load import LoadedNetwork
    from compsrt_basicsr.onnx.generic import engine_model
    from compsrt_basicsr.quant.record import decode_record

    network = tiny_quantized({'operands': operands})
    loaded = LoadedNetwork(network, 2, 8, 3, '', '', decode_record(network.quant_record.json))
    model = engine_model(loaded, exact=True).model
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    theirs = torch.from_numpy(session.run(None, {'input': pictures()[:1].numpy()})[0])
    with torch.no_grad():
        ours = network(pictures()[:1])
    if operands == 'weights':
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)  # float32 sums
    else:  # a value on the border of two codes may round to either
        assert float((theirs - ours).abs().mean()) < 0.02
    with without_rounding(network), torch.no_grad():
        smooth = network(pictures()[:1])
    assert (operands == 'weights') == torch.equal(smooth, ours)


@pytest.mark.parametrize('operands', ['weights', 'activations'])
def test_integer_execution_is_refused(operands):
    with pytest.raises(CompSRTError, match=f'operands.*{operands}'):
        QuantConfig(operands=operands, execution='integer')
    with pytest.raises(CompSRTError, match=f'only the {operands} are quantized'):
        set_execution_(tiny_quantized({'operands': operands}), 'integer')


def test_code_usage_covers_the_quantized_operands():
    network = tiny_quantized({'operands': 'activations', 'act_bits': 2})
    with counting_codes(network) as counts:
        run(network)
    assert len(counts) == len(quantizers(network)) and all(1 < count.used <= 4 for count in counts.values())


def test_pruning_needs_quantized_weights():
    for options in ({'prune_ratio': 0.4}, {'prune_pattern': '2:4'}):
        with pytest.raises(CompSRTError, match='operands'):
            QuantConfig(operands='activations', **options)
    assert QuantConfig(operands='weights', prune_ratio=0.4).prunes


def test_a_convolution_of_float_weights():
    layer = QuantConv2d(nn.Conv2d(4, 4, 3, padding=1), QuantConfig(operands='activations', transform='none'))
    layer.act_quantizer.set_bounds(torch.tensor([0.0]), torch.tensor([15.0]))
    x = torch.randint(0, 16, (1, 4, 6, 6)).float()  # on the grid
    with torch.no_grad():
        torch.testing.assert_close(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias, padding=1))
