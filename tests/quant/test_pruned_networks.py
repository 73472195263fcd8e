"""Pruned layers and networks: exact zeros in the forward pass, in training, and in the state dict."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.convert import quantize_
from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.functional.affine import dequantize, zero_onto_grid
from compsrt_basicsr.quant.layers import QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.pruning import copy_masks_, mask_blocks, prune_, pruned_layers
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.sparsity import measure_sparsity, summarize_sparsity

SIZES = {'upscale': 2, 'img_size': 16, 'depths': [1], 'embed_dim': 12, 'num_heads': [2]}
RANGES = {'strict': {}, 'paper': {'code_range': 'paper', 'transform': 'padded'}}
PATTERNS = {
    'layer': {'prune_ratio': 0.4},
    'global': {'prune_ratio': 0.4, 'prune_scope': 'global'},
    '2:4': {'prune_pattern': '2:4'},
    'channel': {'prune_ratio': 0.3, 'prune_pattern': 'channel'},
}


def layer_of(kind, seed=0, **options):
    """A calibrated pruned layer and its input."""
    torch.manual_seed(seed)
    config = QuantConfig(**{'prune_ratio': 0.4, **options})
    if kind == 'conv':
        layer, x = QuantConv2d(nn.Conv2d(12, 8, 3), config), torch.randn(2, 12, 6, 6)
    elif kind == 'split':
        layer, x = QuantSplitLinear(nn.Linear(20, 24), config, ('q', 'k', 'v')), torch.randn(30, 20)
    else:
        layer, x = QuantLinear(nn.Linear(20, 24), config), torch.randn(30, 20)
    calibrate(layer, x, CalibrationConfig(candidates=20), progress=False)
    return layer, x


def total(result):
    return sum(part.square().sum() for part in result) if isinstance(result, list) else result.square().sum()


def network_of(**quant):
    torch.manual_seed(0)
    network, x = CompSRTSwinIR(**SIZES, quant=quant), torch.rand(2, 3, 16, 16)
    return network, x


def calibrated(**quant):
    network, x = network_of(**quant)
    calibrate(network, x, CalibrationConfig(candidates=10), progress=False)
    return network, x


def assert_exact_zeros(network):
    for layer in pruned_layers(network).values():
        for values, keep in zip(layer.quantized_weights(), mask_blocks(layer).values()):
            assert bool((values[~keep] == 0).all())


# Exact zeros


@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
@pytest.mark.parametrize('code_range', RANGES)
@pytest.mark.parametrize('kind', ['linear', 'split', 'conv'])
def test_exactly_the_ratio_of_each_tensor_is_zero(kind, code_range, granularity):
    layer, _ = layer_of(kind, granularity=granularity, **RANGES[code_range])
    assert_exact_zeros(layer)
    for keep in mask_blocks(layer).values():
        assert int((~keep).sum()) == round(0.4 * keep.numel())
    assert bool((layer.transformed_weight()[~layer.keep_mask] == 0).all())
    width = {'strict': {'conv': 12}, 'paper': {'conv': 16}}[code_range].get(kind, 20 if code_range == 'strict' else 32)
    assert layer.keep_mask.shape[1] == width


@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
@pytest.mark.parametrize('kind', ['linear', 'split', 'conv'])
def test_pruned_coefficients_have_a_code_whose_value_is_exactly_zero(kind, granularity):
    """Files and integer kernels need no mask to decode."""
    layer, _ = layer_of(kind, granularity=granularity)
    codes, blocks = layer.weight_codes(), mask_blocks(layer)
    assert int(codes.min()) >= 0 and int(codes.max()) <= 15
    for code, values, (quantizer, keep) in zip(codes.chunk(len(blocks)), layer.quantized_weights(), blocks.items()):
        decoded = dequantize(code.flatten(1).float(), *quantizer.grid()).view_as(values)
        assert torch.equal(decoded, values)
        assert bool((decoded[~keep] == 0).all())


@settings(max_examples=60)
@given(st.floats(1e-6, 1e3), st.floats(-2, 1), st.sampled_from([4, 8, 16, 256]))
def test_the_grid_holds_zero_and_its_zero_point_moves_at_most_half_a_step(scale, position, levels):
    """`position`: where 0 lies, as a share of the grid; outside of it the nearest end becomes 0."""
    scale = torch.tensor(scale)
    zero = scale * (levels - 1) * position
    moved = zero_onto_grid(scale, zero, levels)
    values = dequantize(torch.arange(levels, dtype=torch.float32), scale, moved)
    assert int((values == 0).sum()) == 1
    if -1 <= position <= 0:
        assert abs(float(moved - zero)) <= 0.5001 * float(scale)  # float32 divides, rounds and multiplies back


def test_gradient_of_the_moved_zero_point():
    """dZ'/dZ = 1 and dZ'/ds = clip(-Z/s) - k: here -Z/s = 2.3, k = 2; outside the grid the clip holds it at 0."""
    for start, expected in ((-0.69, 0.3), (0.9, 0.0)):
        scale, zero = torch.tensor(0.3, requires_grad=True), torch.tensor(start, requires_grad=True)
        zero_onto_grid(scale, zero, 16).backward()
        assert float(zero.grad) == 1
        assert float(scale.grad) == pytest.approx(expected, abs=1e-6)  # float32


@pytest.mark.parametrize('code_range', RANGES)
@pytest.mark.parametrize('kind', ['linear', 'split', 'conv'])
def test_zeros_stay_exact_while_everything_trains(kind, code_range):
    layer, x = layer_of(kind, **RANGES[code_range])
    mask = layer.keep_mask.clone()
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        total(layer(x)).backward()
        optimizer.step()
        assert_exact_zeros(layer)
    assert torch.equal(layer.keep_mask, mask)


@pytest.mark.parametrize('kind', ['linear', 'split', 'conv'])
def test_pruned_coefficients_get_no_gradient(kind):
    """In the transformed domain, where they live; 1e-6 of the largest: float32 sums of 20 products."""
    layer, x = layer_of(kind)
    total(layer(x)).backward()
    gradient = layer.weight.grad
    gradient = layer.transform(gradient) if gradient.ndim == 2 else layer.transform.forward_channels(gradient)
    assert float(gradient[~layer.keep_mask].abs().max()) <= 1e-6 * float(gradient.abs().max())
    assert float(gradient[layer.keep_mask].abs().max()) > 0


def test_every_learned_parameter_of_a_pruned_layer_gets_a_gradient():
    layer, x = layer_of('linear', weight_bits=2)
    total(layer(x)).backward()
    for name, parameter in layer.weight_quantizer.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.abs() > 0), name


def test_masked_coefficients_do_not_affect_the_quantizer():
    """Other values below the mask change neither output nor gradients."""
    layer, x = layer_of('linear', transform='none')
    layer.requires_grad_(True)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.weight[~other.keep_mask] = 5.0
    for one in (layer, other):
        total(one(x)).backward()
    for (name, first), second in zip(layer.weight_quantizer.named_parameters(), other.weight_quantizer.parameters()):
        assert torch.equal(first.grad, second.grad), name


# Calibration


def test_bounds_are_searched_on_kept_coefficients():
    """Kept ones from 1 to 2, pruned ones near 0: with the minmax method the bounds say which were looked at."""
    linear = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 0.1, 2.0, 0.0], [1.5, 0.2, 1.2, 0.3]]))
    paper = QuantConfig(prune_ratio=0.5, transform='none', code_range='paper')
    layer = QuantLinear(linear, paper)
    calibrate(layer, torch.randn(5, 4), CalibrationConfig(method='minmax'), progress=False)
    assert [bound.item() for bound in layer.weight_quantizer.bounds()] == [1.0, 2.0]
    strict = QuantLinear(linear, QuantConfig(prune_ratio=0.5, transform='none'))
    calibrate(strict, torch.randn(5, 4), CalibrationConfig(method='minmax'), progress=False)
    assert strict.weight_quantizer.bounds()[0].item() == 0  # widened, so that the grid holds zero


def test_activations_come_from_the_pruned_network():
    """All output channels but the bias of the first layer go; the second sees the bias alone."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8))
    with torch.no_grad():
        network[0].weight.mul_(1e-6)  # the smallest channels of the network
    pruning = {'prune_ratio': 0.5, 'prune_pattern': 'channel', 'prune_scope': 'global'}
    quantize_(network, QuantConfig(quantize_head_tail=True, **pruning))
    seen = []
    network[1].register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    calibrate(network, torch.randn(6, 4), CalibrationConfig(), progress=False)
    assert torch.equal(seen[0], network[0].bias.expand(6, 8))
    assert not network[0].keep_mask.any() and bool(network[1].keep_mask.all())


def test_calibration_may_start_unpruned():
    network, x = network_of(prune_ratio=0.4)
    calibrate(network, x, CalibrationConfig(candidates=5), progress=False, prune_ratio=0.0)
    assert all(bool(layer.keep_mask.all()) for layer in pruned_layers(network).values())
    assert summarize_sparsity(measure_sparsity(network))['sparsity'] == 0


def test_a_channel_without_kept_coefficients_calibrates():
    layer, x = layer_of('linear', prune_pattern='channel', granularity='channel')
    pruned = ~layer.keep_mask[:, 0]
    assert int(pruned.sum()) == round(0.4 * 24)
    with torch.no_grad():
        assert torch.equal(layer(x)[:, pruned], layer.bias[pruned].expand(30, -1))


# Whole networks


@pytest.mark.parametrize('code_range', RANGES)
@pytest.mark.parametrize('pattern', PATTERNS)
def test_networks_are_pruned_by_calibration(pattern, code_range):
    network, x = calibrated(**PATTERNS[pattern], **RANGES[code_range])
    tensors = measure_sparsity(network)
    assert len(tensors) == 6 and tensors[0].name.endswith('attn.qkv.q.weight_quantizer')
    assert_exact_zeros(network)
    pruned, size = sum(t.pruned for t in tensors), sum(t.size for t in tensors)
    if pattern == 'layer':
        assert [t.pruned for t in tensors] == [round(0.4 * t.size) for t in tensors]
    elif pattern == 'global':
        assert pruned == round(0.4 * size) and len({t.pruned / t.size for t in tensors}) > 3
    elif pattern == '2:4':
        for layer in pruned_layers(network).values():
            assert bool((layer.keep_mask.unflatten(1, (-1, 4)).sum(2) == 2).all())
        assert pruned == size / 2
    else:
        rows = [mask for layer in pruned_layers(network).values() for mask in mask_blocks(layer).values()]
        assert [int((~row[:, 0]).sum()) for row in rows] == [round(0.3 * len(row)) for row in rows]
    assert torch.isfinite(network(x)).all()


def test_masks_are_deterministic():
    first, second = (calibrated(prune_ratio=0.4, prune_scope='global')[0] for _ in range(2))
    prune_(second)
    for a, b in zip(pruned_layers(first).values(), pruned_layers(second).values()):
        assert torch.equal(a.keep_mask, b.keep_mask)


def test_paper_bits_and_measured_bits():
    network, _ = calibrated(prune_ratio=0.4, weight_bits=3)
    totals = summarize_sparsity(measure_sparsity(network))
    assert totals['bits_paper'] == pytest.approx(3 * 0.6 + 1)
    assert totals['bits_mask'] == pytest.approx(3 * (1 - totals['sparsity']) + 1)
    assert 1 < totals['bits_entropy'] < 3
    assert totals['zeros'] >= totals['sparsity'] == pytest.approx(0.4, abs=0.5 / 144)  # each tensor rounds


def test_width_of_codes_beyond_their_bits():
    """With a step 16 times smaller than calibrated, as training may give: 4 + 4 bits and the mask."""
    layer, _ = layer_of('linear', code_range='paper', transform='none')
    with torch.no_grad():
        step, _ = layer.weight_quantizer.grid()
        layer.weight_quantizer.scale_offset.sub_(step * 15 / 16)
    (tensor,) = measure_sparsity(layer)
    assert (tensor.bits, tensor.width) == (4, 8)
    totals = summarize_sparsity([tensor])
    assert totals['bits_paper'] == pytest.approx(3.4) and totals['bits_mask'] == pytest.approx(8 * 0.6 + 1)


def test_entropy_is_that_of_the_codes():
    """Half pruned, the other half on two codes alike: 1.5 bits."""
    linear = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 0.1, -2.0, 0.0], [1.0, 0.2, -2.0, 0.1]]))
    for code_range in ('strict', 'paper'):
        layer = QuantLinear(linear, QuantConfig(prune_ratio=0.5, transform='none', code_range=code_range))
        calibrate(layer, torch.randn(5, 4), CalibrationConfig(method='minmax'), progress=False)
        (tensor,) = measure_sparsity(layer)
        assert (tensor.pruned, tensor.zeros, tensor.size) == (4, 4, 8)
        assert tensor.entropy == pytest.approx(1.5)


def test_unpruned_networks_have_neither_masks_nor_report():
    network, _ = calibrated()
    assert not any('keep_mask' in key for key in network.state_dict())
    assert measure_sparsity(network) == [] and summarize_sparsity([]) == {}
    assert not any(q.zero_on_grid for q in quantizers(network).values())


# State dicts


@pytest.mark.parametrize('code_range', RANGES)
def test_masks_survive_the_state_dict(code_range):
    network, x = calibrated(prune_ratio=0.4, **RANGES[code_range])
    prune_(network, 0.2)  # as in the middle of a schedule
    other, _ = network_of(prune_ratio=0.4, **RANGES[code_range])
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(other.eval()(x), network.eval()(x))
    assert summarize_sparsity(measure_sparsity(other))['sparsity'] == pytest.approx(0.2, abs=0.5 / 144)


def test_full_precision_checkpoints_load_and_are_pruned_anew():
    plain, _ = network_of()
    state = {k: v for k, v in plain.state_dict().items() if 'quant' not in k}
    network, x = calibrated(prune_ratio=0.4)
    network.load_state_dict(state)
    assert not any(q.is_calibrated for q in quantizers(network).values())
    calibrate(network, x, CalibrationConfig(candidates=5), progress=False)
    assert all(t.pruned == round(0.4 * t.size) for t in measure_sparsity(network))


def test_a_mask_is_reset_by_a_layer_of_full_precision():
    layer, _ = layer_of('linear')
    layer.load_state_dict({'weight': layer.weight, 'bias': layer.bias})
    assert bool(layer.keep_mask.all())


def test_foreign_quantized_checkpoints_are_pruned_on_loading():
    """The files of the authors have no mask and need no calibration."""
    source, _ = calibrated(**RANGES['paper'])
    found, state = quantizers(source), {}
    for name, quantizer in found.items():
        owner = name
        for operand, theirs in (('q', 'q'), ('k', 'k'), ('v', 'v'), ('attn', 'a')):
            owner = owner.replace(f'attn.{operand}_quantizer', f'attn.mymodule_{theirs}')
        parts = {'lower_bound': 'lower', 'upper_bound': 'upper', 'alpha': 'scale_offset', 'beta_Z': 'zero_offset'}
        state.update({f'{owner}.{part}': getattr(quantizer, own).detach().view(1) for part, own in parts.items()})
        state[f'{owner}.n_bit'] = torch.tensor([float(quantizer.bits)])
    state.update({k: v for k, v in source.state_dict().items() if 'quantizer' not in k and 'quant_record' not in k})
    network, _ = network_of(prune_ratio=0.4, **RANGES['paper'])
    network.load_state_dict(state)
    assert all(t.pruned == round(0.4 * t.size) for t in measure_sparsity(network))


def test_checkpoints_of_another_pruning_are_refused():
    plain, pruned = calibrated()[0].state_dict(), calibrated(prune_ratio=0.4)[0].state_dict()
    for state, network, text in (
        (plain, network_of(prune_ratio=0.4)[0], 'prune_ratio 0.0 in the checkpoint, 0.4 in the options'),
        (pruned, network_of()[0], 'prune_ratio 0.4 in the checkpoint, 0.0 in the options'),
        (pruned, network_of(prune_ratio=0.4, prune_scope='global')[0], "prune_scope 'layer' in the checkpoint"),
    ):
        with pytest.raises(CompSRTError, match=text):
            network.load_state_dict(state)


def test_a_pruned_checkpoint_that_lost_masks_is_refused():
    network, _ = calibrated(prune_ratio=0.4)
    state = {k: v for k, v in network.state_dict().items() if 'keep_mask' not in k}
    with pytest.raises(RuntimeError, match='keep_mask'):
        network.load_state_dict(state)
    state = network.state_dict()
    lost = next(key for key in state if key.endswith('keep_mask'))
    del state[lost]
    with pytest.raises(CompSRTError, match=f'{lost} is missing'):
        network.load_state_dict(state)


def test_masks_are_copied_to_a_twin():
    network, _ = calibrated(prune_ratio=0.4)
    twin = copy.deepcopy(network)
    prune_(network, 0.1)
    copy_masks_(network, twin)
    for mine, theirs in zip(pruned_layers(network).values(), pruned_layers(twin).values()):
        assert torch.equal(mine.keep_mask, theirs.keep_mask)
