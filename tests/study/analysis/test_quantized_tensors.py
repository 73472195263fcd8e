"""Which tensors are analysed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from basicsr.archs.swinir_arch import SwinIR
from tiny_networks import EDSR, TINY, pictures, ready, tiny_edsr, tiny_quantized, tiny_swinir

from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT, CompSRTSwinIR
from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.record import decode_record
from compsrt_basicsr.study.analysis.quantized_tensors import quantizable_copy, quantized_tensors, weights


def loaded(network, record) -> LoadedNetwork:
    return LoadedNetwork(network, 2, 8, 3, 'any', 'any.pth', record)


def full_precision(**changes) -> LoadedNetwork:
    return loaded(tiny_swinir(**changes), {'arch': 'SwinIR', 'args': {**TINY, **changes}, 'quant': None})


def test_swinir_light_has_384():
    """24 blocks of six weights, six inputs and four operands of attention; q, k and v share their input."""
    found = quantized_tensors(CompSRTSwinIR(**SWINIR_LIGHT, quant={'transform': 'none'}))
    assert len(found) == 384 and len({tensor.name for tensor in found}) == 384
    assert Counter(tensor.kind for tensor in found) == {'weight': 144, 'activation': 240}
    assert sum(tensor.same_as is not None for tensor in found) == 48
    assert sorted({tensor.depth for tensor in found}) == list(range(24))
    assert set(Counter(tensor.depth for tensor in found).values()) == {16}
    orders = {tensor.role: tensor.order for tensor in found if tensor.kind == 'activation'}
    assert orders == {
        **dict.fromkeys(['q', 'k', 'v', 'proj', 'fc1'], 60),
        'fc2': 120,
        **dict.fromkeys(['matmul_q', 'matmul_k'], 10),
        **dict.fromkeys(['matmul_v', 'matmul_attn'], 64),
    }


@pytest.mark.parametrize('make', [CompSRTSwinIR, None], ids=['SwinIR', 'EDSR'])
def test_names_are_those_of_the_quantizers(make):
    network = make(**TINY) if make else tiny_edsr()
    names = [tensor.name for tensor in quantized_tensors(network)]
    assert len(names) == len(set(names)) and set(names) == set(quantizers(network))


def test_the_copy_computes_what_the_network_does():
    """With quantizers that only observe, it is the full-precision network."""
    model = full_precision()
    copy = quantizable_copy(model)
    for quantizer in quantizers(copy).values():
        quantizer.observer = lambda quantizer, x: None
    with torch.no_grad():
        assert torch.allclose(copy(pictures()), model.network(pictures()), atol=1e-5)


@pytest.mark.parametrize(
    'quant',
    [
        {},
        {'transform': 'padded', 'code_range': 'paper'},
        {'prune_ratio': 0.4},
        {'granularity': 'channel', 'quantize_convs': True},
    ],
    ids=['strict', 'paper', 'pruned', 'channels'],
)
def test_a_quantized_network_keeps_its_weights_and_its_choice_of_layers(quant):
    network = tiny_quantized(quant)
    record = {'arch': 'CompSRTSwinIR', 'args': dict(TINY), 'quant': quant}
    copy = quantizable_copy(loaded(network, record))
    assert set(quantizers(copy)) == set(quantizers(network))
    own = network.state_dict()
    for name, value in copy.state_dict().items():
        if name.endswith('.weight'):
            assert torch.equal(value, own[name]), name


def test_weights_are_those_of_the_layers():
    model = full_precision()
    found = dict(weights(quantizable_copy(model)))
    fused = model.network.state_dict()['layers.0.residual_group.blocks.1.attn.qkv.weight']
    prefix = 'layers.0.residual_group.blocks.1.attn.qkv'
    parts = [found[f'{prefix}.{part}.weight_quantizer'] for part in 'qkv']
    assert torch.equal(torch.cat(parts), fused)


@pytest.mark.parametrize(('operand', 'axis'), [('q', 3), ('k', 3), ('v', 1), ('attn', 3)])
def test_operands_of_attention_are_cut_along_what_their_product_contracts(operand: str, axis: int):
    """q k^T contracts the 6 coefficients of a head, attention times v the 64 tokens."""
    copy = quantizable_copy(full_precision())
    (tensor,) = (
        t for t in quantized_tensors(copy) if t.name == f'layers.0.residual_group.blocks.0.attn.{operand}_quantizer'
    )
    shape = (2, 2, 64, 64) if operand == 'attn' else (2, 64, 2, 6)
    x = torch.rand(shape)
    rows = tensor.rows(x)
    assert rows.shape == (x.numel() // shape[axis], shape[axis])
    assert torch.allclose(rows.sum(), x.sum())
    assert torch.equal(rows[0], x[(0,) * axis + (slice(None),) + (0,) * (3 - axis)])


def test_convolutions_are_cut_along_their_channels():
    network = tiny_edsr()
    (tensor,) = (t for t in quantized_tensors(network) if t.name == 'body.0.conv1.act_quantizer')
    x = torch.rand(2, 8, 5, 7)
    assert tensor.order == 8 and torch.equal(tensor.rows(x)[1], x[0, :, 0, 1])
    name, weight = next(iter(weights(network)))
    (tensor,) = (t for t in quantized_tensors(network) if t.name == name)
    assert torch.equal(tensor.rows(weight)[1], weight[0, :, 0, 1])


def test_grouped_convolutions_are_skipped():
    from torch import nn

    from compsrt_basicsr.config.quant import QuantConfig
    from compsrt_basicsr.quant.convert import quantize_

    network = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3))
    quantize_(network, QuantConfig(quantize_convs=True, quantize_head_tail=True))
    assert [bool(tensor.skipped) for tensor in quantized_tensors(network)] == [True, True, False, False]


def test_a_network_without_quantizers():
    with pytest.raises(CompSRTError, match='SwinIR has no quantizers'):
        quantized_tensors(SwinIR(**TINY))
    record = {'arch': 'CompSRTNet', 'args': {'base': EDSR}, 'quant': {'quantize_convs': True, 'exclude': ['*']}}
    with pytest.raises(CompSRTError, match='EDSR'):
        quantizable_copy(loaded(ready(CompSRTSwinIR(**TINY)), record))


@pytest.mark.parametrize('operands', ['weights', 'activations'])
def test_a_network_that_quantizes_one_operand_has_the_tensors_of_both(operands: str):
    """What would be quantized is measured, so that such networks can be compared with others."""
    network = tiny_quantized({'operands': operands, 'symmetric': 'weights'})
    copy = quantizable_copy(loaded(network, decode_record(network.quant_record.json)))
    found = quantized_tensors(copy)
    assert [t.name for t in found] == [t.name for t in quantized_tensors(quantizable_copy(full_precision()))]
    assert set(quantizers(copy)) == {tensor.name for tensor in found}
    assert len(list(weights(copy))) == sum(tensor.kind == 'weight' for tensor in found)
