"""Low-rank corrections: their start, their gradients in closed form, where they are, and merging."""

import json

import pytest
import torch
from tiny_networks import pictures, tiny_quantized, tiny_swinir
from torch import nn

from compsrt_basicsr import compress, save_packed
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.integer.execution import set_execution_
from compsrt_basicsr.packing.packed import load_packed
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.code_usage import counting_codes
from compsrt_basicsr.quant.correction import Correction, corrections
from compsrt_basicsr.quant.layers import QuantLinear, QuantSplitLinear, quantized_layers
from compsrt_basicsr.quant.merging import merge_corrections_, merged
from compsrt_basicsr.quant.record import decode_record

SPR2Q = {'method': 'spr2q', 'weight_bits': 2, 'act_bits': 2}


def drawn(correction, seed=0):
    """A correction whose parameters are all different from 0, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in correction.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return correction


def trained(quant=None, **changes):
    """A calibrated network whose corrections are as large as its weights."""
    network = tiny_quantized({**SPR2Q, **(quant or {})}, **changes)
    for seed, correction in enumerate(corrections(network).values()):
        drawn(correction, seed)
    return network


def closed_forms(correction, g):
    """dW and the gradients of A, B and the gates for the gradient g of dW, pair by pair in float64."""
    down, up, gate = (x.detach().double() for x in (correction.down, correction.up, correction.gate))
    total, grads = [], [torch.zeros_like(x) for x in (down, up, gate)]
    for p, block in enumerate(g.double().chunk(len(gate))):
        shares = gate[p].exp() / gate[p].exp().sum()
        products = [b @ a for a, b in zip(down[p], up[p])]
        along = torch.stack([(block * product).sum() for product in products])
        for i, share in enumerate(shares):
            grads[0][p, i] = share * up[p, i].T @ block
            grads[1][p, i] = share * block @ down[p, i].T
            grads[2][p, i] = share * (along[i] - (shares * along).sum())
        total.append(sum(share * product for share, product in zip(shares, products)))
    return torch.cat(total), grads


@pytest.mark.parametrize(('shape', 'blocks'), [((60, 60), 1), ((180, 60), 3), ((16, 48), 1)])
def test_value_and_gradients_in_closed_form(shape, blocks):
    """1e-12: the same sums in float64, in another order."""
    correction = drawn(Correction(torch.zeros(shape), blocks, 4, 8).double())
    g = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected, grads = closed_forms(correction, g)
    result = correction()
    result.backward(g)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    for parameter, grad in zip((correction.down, correction.up, correction.gate), grads):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('transform', ['none', 'auto'])
def test_gradients_through_a_clipping_layer(transform):
    """Those of the weight that the quantizer sees, 0 where it clips; 1e-4: float32 sums of 200 rows against float64."""
    torch.manual_seed(0)
    config = QuantConfig.from_opt({**SPR2Q, 'transform': transform})
    layer, x = QuantLinear(nn.Linear(20, 24), config), torch.randn(200, 20)
    calibrate(layer, x, CalibrationConfig(method='minmax'), progress=False)
    drawn(layer.correction)
    with torch.no_grad():
        for bound in (layer.weight_quantizer.lower, layer.weight_quantizer.upper):
            bound.mul_(0.5)
    target = torch.randn(200, 24)
    (layer(x) * target).sum().backward()
    with torch.no_grad():
        w = layer.dense_weight()
        lower, upper = layer.weight_quantizer.bounds()
        inside = (w > lower) & (w < upper)
        g = inside * (target.double().T @ layer.act_quantizer(layer.transform(x)).double())
        g = g if layer.transform.matrix is None else g @ layer.transform.matrix.double().T
    assert 0.1 < float(inside.float().mean()) < 0.9
    for part, grad in zip(('down', 'up', 'gate'), closed_forms(layer.correction, g)[1]):
        found = getattr(layer.correction, part).grad.double()
        assert float((found - grad).norm() / grad.norm()) < 1e-4, part


@pytest.mark.parametrize('width', [16, 60, 240])
def test_the_start(width):
    """dW = 0; A is uniform in +-sqrt(6 / 8) whatever the width: std 0.5 to 5% for 512 numbers or more."""
    torch.manual_seed(0)
    correction = Correction(torch.zeros(30, width), 1, 4, 8)
    assert float(correction.down.detach().abs().max()) <= 0.75**0.5
    assert float(correction.down.detach().std()) == pytest.approx(0.5, rel=0.05)
    assert not bool(correction().any()) and torch.equal(correction.gate, torch.zeros(1, 4))


def test_a_calibrated_network_starts_as_the_one_without():
    """Also one that had corrections before: a full-precision checkpoint resets what it does not have."""
    networks = [trained({'corrections': count}) for count in (0, 4)]
    for network in networks:
        network.load_state_dict(tiny_swinir().state_dict())
        calibrate(network, pictures(), CalibrationConfig(candidates=20), progress=False)
    with torch.no_grad():
        assert torch.equal(networks[0](pictures()), networks[1](pictures()))


def test_linears_have_corrections_and_nothing_else():
    network = tiny_quantized({**SPR2Q, 'quantize_convs': True, 'layers': {'*.fc1': {'corrections': 0}}})
    layers = quantized_layers(network)
    expected = {name for name, x in layers.items() if isinstance(x, (QuantLinear, QuantSplitLinear))}
    assert {name for name, x in layers.items() if x.correction} == {n for n in expected if not n.endswith('fc1')}
    qkv = network.layers[0].residual_group.blocks[0].attn.qkv
    assert qkv.correction.up.shape == (3, 4, 12, 8) and qkv.correction.down.shape == (3, 4, 8, 12)
    assert not corrections(tiny_quantized())


@pytest.mark.parametrize('quant', [{}, {'transform': 'auto', 'equalize': True}, {'prune_ratio': 0.4}])
def test_merging_changes_nothing(quant):
    network = trained({**quant, 'layers': {'*.fc1': {'corrections': 2}}})
    result = merged(network)
    assert corrections(network) and not corrections(result)
    with torch.no_grad(), counting_codes(result) as counts:
        assert torch.equal(network(pictures()), result(pictures()))
    assert max(count.used for count in counts.values()) <= 4
    ordinary = tiny_quantized({**SPR2Q, **quant, 'corrections': 0, 'layers': {'*.fc1': {'corrections': 0}}})
    assert result.state_dict().keys() == ordinary.state_dict().keys()
    ordinary.load_state_dict(result.state_dict())
    with torch.no_grad():
        assert torch.equal(network(pictures()), ordinary(pictures()))
    quant_record = decode_record(result.quant_record.json)['quant']
    assert (quant_record['method'], quant_record['corrections']) == ('spr2q', 0)
    assert quant_record['layers']['*.fc1']['corrections'] is None and merged(result) is result


@pytest.mark.usefixtures('kernel_home')
def test_files_and_codes_are_those_of_an_ordinary_network(tmp_path):
    """The loader merges a checkpoint; packed files hold codes. 1e-5: integer sums against float32 ones."""
    network = trained()
    torch.save({'params': network.state_dict()}, tmp_path / 'net_g.pth')
    loaded = load_network(tmp_path / 'net_g.pth')
    save_packed(network, tmp_path / 'packed.safetensors')
    packed = load_packed(tmp_path / 'packed.safetensors')
    assert not corrections(loaded.network) and not corrections(packed) and loaded.record['quant']['corrections'] == 0
    with torch.no_grad():
        expected = network(pictures())
        assert torch.equal(loaded.network(pictures()), expected)
    for mine, theirs in zip(quantized_layers(network).values(), quantized_layers(packed).values()):
        assert torch.equal(mine.weight_codes(), theirs.weight_codes())
    set_execution_(loaded.network, 'integer')
    with torch.no_grad():
        assert float((loaded.network(pictures()) - expected).abs().max()) < 1e-5


def test_a_checkpoint_without_corrections_sets_them_to_0(tmp_path):
    """Of a merged network, whose record differs in nothing that counts."""
    network = trained()
    with torch.no_grad():
        expected = network(pictures())
        again = trained()
        again.load_state_dict(merged(network).state_dict())
        assert torch.equal(again(pictures()), expected)
    assert not any(bool(correction().any()) for correction in corrections(again).values())


def test_calibrating_again_starts_from_the_corrected_weight():
    network = trained({'transform': 'auto'})
    before = {name: layer.corrected_weight() for name, layer in quantized_layers(network).items()}
    calibrate(network, pictures(), CalibrationConfig(reconstruct=True, least_squares=False), progress=False)
    moved = [x.weight.sub(before[n]).norm() / before[n].norm() for n, x in quantized_layers(network).items()]
    assert max(map(float, moved)) < 0.5  # rounding in 2 bits; without the corrections it would be above 1
    assert not any(bool(correction().any()) for correction in corrections(network).values())


def test_compress_leaves_no_corrections(tmp_path):
    torch.save({'params': tiny_swinir().state_dict()}, tmp_path / 'teacher.pth')
    student = compress(load_network(tmp_path / 'teacher.pth'), pictures(), **SPR2Q)
    assert student.record['quant']['corrections'] == 0 and not corrections(student.network)


def test_under_autocast_and_inference_mode():
    network = trained()
    layer = network.layers[0].residual_group.blocks[0].mlp.fc1
    expected = layer.weight_codes()
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(layer.weight_codes(), expected) and torch.equal(layer.weight_codes(), expected)
    merge_corrections_(network)
    assert torch.equal(layer.weight_codes(), expected)


def test_a_version_before_corrections_left_them_out_of_the_options_of_layers():
    """Its checkpoints load: what a layer's options leave out is not compared."""
    network = tiny_quantized({'layers': {'*.fc1': {'weight_bits': 8}}})
    record = decode_record(network.quant_record.json)
    del record['quant']['corrections'], record['quant']['correction_rank']
    record['quant']['layers'] = {'*.fc1': {'weight_bits': 8, 'transform': None}}
    state = {
        **network.state_dict(),
        'quant_record.json': torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8),
    }
    tiny_quantized({'layers': {'*.fc1': {'weight_bits': 8}}}).load_state_dict(state)
