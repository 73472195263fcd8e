"""Preconditioning of a whole network."""

import pytest
import torch
from tiny_networks import TINY, pictures, spread, tiny_swinir

from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.functional.condition_number import condition_number, reduce_condition
from compsrt_basicsr.quant.layers import QuantizedLayer
from compsrt_basicsr.quant.observation import observing
from compsrt_basicsr.quant.precondition import precondition_
from compsrt_basicsr.quant.quantizer import quantizers


def student(**quant):
    torch.manual_seed(0)
    return spread(CompSRTSwinIR(**TINY, quant={'transform': 'none', **quant}))


def blocks(network):
    layers = [m for m in network.modules() if isinstance(m, QuantizedLayer) and m.weight.ndim == 2]
    return [block.detach().clone() for layer in layers for block in layer.weight.chunk(len(layer.weight_quantizers()))]


def float_output(network):
    with torch.no_grad(), observing(network, lambda quantizer, x: None):
        return network(pictures())


def test_condition_numbers_fall_and_the_output_changes_little():
    network, before = student(), tiny_swinir()(pictures()).detach()
    old = blocks(network)
    precondition_(network, pictures(), 0.01, 20)
    numbers = [(condition_number(block), condition_number(new)) for block, new in zip(old, blocks(network))]
    assert all(later < earlier for earlier, later in numbers if earlier > 10) and max(numbers)[0] > 100
    assert max(later for _, later in numbers) < max(numbers)[0] / 2
    after = float_output(network)
    change = float((after - before).square().mean() / before.square().mean())
    assert 0 < change < 0.01  # lambda bounds each layer's relative change; some layers add up


def test_each_block_sees_the_inputs_of_its_layer():
    network = student()
    layer = network.layers[0].residual_group.blocks[0].attn.qkv
    seen = []
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    float_output(network)
    handle.remove()
    tokens = seen[0].reshape(-1, 12).double()
    expected = [reduce_condition(b, tokens.T @ tokens, 0.01, 5) for b in layer.weight.detach().chunk(3)]
    precondition_(network, pictures(), 0.01, 5)
    torch.testing.assert_close(layer.weight.detach(), torch.cat(expected), rtol=1e-4, atol=1e-6)


def test_calibration_preconditions_first_and_only_if_configured():
    plain, changed = student(), student()
    weights = blocks(plain)
    calibrate(plain, pictures(), CalibrationConfig(method='minmax'), progress=False)
    assert all(torch.equal(a, b) for a, b in zip(blocks(plain), weights))
    calibrate(changed, pictures(), CalibrationConfig(method='minmax', precondition=0.01), progress=False)
    assert not any(torch.equal(a, b) for a, b in zip(blocks(changed), weights))
    fc1 = changed.layers[0].residual_group.blocks[0].mlp.fc1
    for bound, end in zip(fc1.weight_quantizer.bounds(), fc1.weight.aminmax()):
        assert abs(float(bound.detach() - end.detach())) < 1e-6
    assert all(q.is_calibrated and q.observer is None for q in quantizers(changed).values())


def test_convolutions_stay():
    network = student(quantize_convs=True)
    convolutions = [m for m in network.modules() if isinstance(m, QuantizedLayer) and m.weight.ndim == 4]
    before = [m.weight.clone() for m in convolutions]
    precondition_(network, pictures(), 0.01, 3)
    assert before and all(torch.equal(m.weight, old) for m, old in zip(convolutions, before))


@pytest.mark.parametrize(('where', 'layer'), [('conv_first.weight', 'attn.qkv'), ('mlp.fc2.weight', 'mlp.fc2')])
def test_values_that_are_not_finite_name_the_layer(where, layer):
    network = student()
    with torch.no_grad():
        next(p for name, p in network.named_parameters() if name.endswith(where)).mul_(float('nan'))
    with pytest.raises(CompSRTError, match=rf'`layers\.0\.residual_group\.blocks\.0\.{layer}`'):
        precondition_(network, pictures(), 0.01, 3)
