"""Calibration with `reconstruct` on whole networks."""

import pytest
import torch
from device_traffic import DeviceTraffic
from tiny_networks import TINY, pictures, spread, tiny_edsr, tiny_swinir

from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.check import find_errors
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant import reconstruct
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.convert import quantize_
from compsrt_basicsr.quant.layers import QuantizedLayer
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.residual_streams import residual_streams

BITS = {'weight_bits': 2, 'act_bits': 2, 'softmax': 'deferred', 'attention_transform': False}


def student(quant=None, **changes):
    torch.manual_seed(0)
    return spread(CompSRTSwinIR(**{**TINY, **changes}, quant={**BITS, **(quant or {})}))


def patches():
    return torch.cat([pictures(32, 32, seed) for seed in range(2)])


def calibrated(network, **config):
    calibrate(network, patches(), CalibrationConfig(candidates=20, **config), progress=False)
    return network


def loss(network, target):
    """Mean squared error on images that calibration has not seen."""
    x = pictures(32, 32, seed=9)
    with torch.no_grad():
        return float((network(x) - target(x)).square().mean())


def layers(network):
    return [m for m in network.modules() if isinstance(m, QuantizedLayer)]


@pytest.mark.parametrize('transform', ['auto', 'none'])
@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
def test_reconstruction_is_nearer_to_full_precision(transform, granularity):
    quant = {'transform': transform, 'granularity': granularity}
    plain, refitted = calibrated(student(quant)), calibrated(student(quant), reconstruct=True)
    assert loss(refitted, tiny_swinir()) < 0.8 * loss(plain, tiny_swinir())
    assert all(quantizer.is_calibrated for quantizer in quantizers(refitted).values())


def stream(network):
    """The residual stream behind the last block, on images that calibration has not seen."""
    seen = []
    handle = network.layers[-1].residual_group.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        network(pictures(32, 32, seed=9))
    handle.remove()
    return seen[0]


def test_compensating_for_the_stream_reduces_its_error(monkeypatch):
    depths = (4,)
    exact = stream(tiny_swinir(depths=depths))
    with_streams = stream(calibrated(student(depths=depths), reconstruct=True))
    monkeypatch.setattr(reconstruct, 'residual_streams', lambda network: [])
    without = stream(calibrated(student(depths=depths), reconstruct=True))
    assert (with_streams - exact).square().mean() < 0.9 * (without - exact).square().mean()


def test_stream_is_arranged_like_the_input_of_the_attention():
    network = student(depths=(2,))
    for block in network.layers[0].residual_group.blocks:
        seen = {}
        block.norm1 = torch.nn.Identity()
        handle = block.attn.register_forward_pre_hook(seen.__setitem__)
        x = torch.randn(2, 256, 12)
        stream = {s.layer: s for s in residual_streams(network)}[block.attn.proj]
        with torch.no_grad(), pytest.raises(CompSRTError, match='not calibrated'):
            block(x, (16, 16))
        handle.remove()
        assert torch.equal(stream.arrange(x, (16, 16)), seen[block.attn][0])
    assert block.shift_size > 0  # the last one has shifted windows


def test_weights_are_on_their_grids_and_hooks_are_removed():
    network = student().train()
    calibrated(network, reconstruct=True)
    assert network.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    for layer in layers(network):
        values = torch.cat(layer.quantized_weights())
        torch.testing.assert_close(layer.transformed_weight(), values, rtol=0, atol=1e-5)


def test_reconstruction_is_deterministic():
    first, second = (calibrated(student(), reconstruct=True).state_dict() for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.values(), second.values()))


def test_a_fit_may_use_a_sample_of_the_tokens(monkeypatch):
    monkeypatch.setattr(reconstruct, 'ROWS', 300)
    network = calibrated(student(), reconstruct=True)
    assert loss(network, tiny_swinir()) < loss(calibrated(student()), tiny_swinir())


@pytest.mark.parametrize(
    'prune', [{'prune_ratio': 0.3}, {'prune_pattern': '2:4'}, {'prune_pattern': 'channel', 'prune_ratio': 0.2}]
)
def test_pruned_networks_compensate_for_pruning(prune):
    plain, refitted = calibrated(student(prune)), calibrated(student(prune), reconstruct=True)
    assert loss(refitted, tiny_swinir()) < 0.8 * loss(plain, tiny_swinir())
    for layer in layers(refitted):
        assert bool((layer.transformed_weight()[~layer.keep_mask] == 0).all())
        assert bool((torch.cat(layer.quantized_weights())[~layer.keep_mask] == 0).all())


@pytest.mark.parametrize('operands', ['weights', 'activations'])
def test_one_operand_alone(operands):
    quant = {'operands': operands}
    plain, refitted = calibrated(student(quant)), calibrated(student(quant), reconstruct=True)
    assert loss(refitted, tiny_swinir()) < loss(plain, tiny_swinir())


def test_linear_layers_without_bias_get_none():
    network = calibrated(student(qkv_bias=False), reconstruct=True)
    assert network.layers[0].residual_group.blocks[0].attn.qkv.bias is None
    assert loss(network, tiny_swinir(qkv_bias=False)) < loss(
        calibrated(student(qkv_bias=False)), tiny_swinir(qkv_bias=False)
    )


def test_a_layer_may_run_twice():
    class Twice(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x[..., :16, :16]), self.network(x)

    network = Twice(student())
    calibrated(network, reconstruct=True)
    assert all(quantizer.is_calibrated for quantizer in quantizers(network).values())


def test_convolutional_networks_are_refitted_in_execution_order():
    quant = {'weight_bits': 2, 'act_bits': 2, 'quantize_head_tail': True}
    plain, refitted = tiny_edsr(**quant), tiny_edsr(**quant)
    calibrated(plain)
    calibrated(refitted, reconstruct=True)
    first, *later = (torch.equal(a.upper, b.upper) for a, b in zip(_acts(plain), _acts(refitted)))
    assert first and not all(later)
    exact = tiny_edsr(operands='weights', weight_bits=8, granularity='channel')
    assert loss(refitted, exact) < 0.7 * loss(plain, exact)


def _acts(network):
    return [layer.act_quantizer for layer in layers(network)]


@pytest.mark.parametrize('quant', [{'code_range': 'paper'}, {'transform': 'padded', 'softmax': 'normalized'}])
def test_published_formulas_are_refused(quant):
    with pytest.raises(CompSRTError, match='`reconstruct`'):
        calibrated(student(quant), reconstruct=True)
    opt = {'network_g': {'type': 'CompSRTSwinIR', 'quant': quant}, 'calibration': {'reconstruct': True}, 'train': {}}
    assert sum('`calibration`: `reconstruct` needs' in fault for fault in find_errors(opt, True)) == 1
    opt['network_g']['quant'] = {}
    assert not any('reconstruct' in fault for fault in find_errors(opt, True))


def test_images_with_nan_are_refused():
    with pytest.raises(CompSRTError, match='NaN'):
        calibrate(student(), patches() * float('nan'), CalibrationConfig(reconstruct=True), progress=False)


def block_of(network):
    return network.layers[0].residual_group.blocks[0]


EXTREME = {  # of a network: what is made extreme, and the layer whose weight then cannot be computed
    'inputs': (lambda n: n.conv_first, float('inf'), 'layers.0.residual_group.blocks.0.attn.qkv'),
    'weights': (lambda n: block_of(n).mlp.fc1, float('nan'), 'layers.0.residual_group.blocks.0.mlp.fc1'),
    'outputs': (lambda n: n.layers[0].conv, 1e38, 'layers.0.conv'),
}


@pytest.mark.parametrize('quant', [{'operands': 'weights'}, {'operands': 'weights', 'prune_ratio': 0.4}], ids=str)
@pytest.mark.parametrize('what', EXTREME)
def test_extreme_values_are_an_error_that_names_the_layer(what, quant):
    """Without quantized activations, whose quantizers would find the values first."""
    network, (find, factor, name) = student(quant), EXTREME[what]
    with torch.no_grad():
        find(network).weight.mul_(factor)
    with pytest.raises(CompSRTError, match=f'`{name}`'):
        calibrated(network, reconstruct=True)


@pytest.mark.parametrize('width', [2, 4])
@pytest.mark.parametrize('factor', [1e-30, 1e15])
def test_extreme_but_finite_activations_of_tiny_networks_are_fitted(width, factor):
    quant = {'weight_bits': 8, 'act_bits': 8, 'granularity': 'channel'}
    network = student(quant, embed_dim=width, num_heads=(1,))
    with torch.no_grad():
        network.conv_first.weight.mul_(factor)
    calibrated(network, reconstruct=True)
    assert all(bool(torch.isfinite(value).all()) for value in network.parameters())


def convolutions(network):
    return {name: m for name, m in network.named_modules() if type(m) is torch.nn.Conv2d}


def test_only_convolutions_behind_quantized_layers_are_fitted():
    network, start = student(), student()
    calibrated(network, reconstruct=True)
    pairs = {name: (conv, convolutions(start)[name]) for name, conv in convolutions(network).items()}
    changed = {name for name, (new, old) in pairs.items() if not torch.equal(new.weight, old.weight)}
    assert changed == set(pairs) - {'conv_first'} and len(changed) == 3


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('bias', [True, False])
def test_a_convolution_is_recovered(stride, bias):
    """Without noise, the least-squares weight is the one that made the targets, except for the ridge."""
    generator = torch.Generator().manual_seed(0)
    conv, other = (torch.nn.Conv2d(3, 4, (3, 5), stride, (1, 2), bias=bias) for _ in range(2))
    x = torch.randn(4, 3, 40, 30, generator=generator)
    with torch.no_grad():
        target = reconstruct._rows(conv, conv(x), reconstruct.ROWS)
        reconstruct._refit_convolution(other, x, target)
        assert reconstruct._rows(other, other(x), reconstruct.ROWS).sub(target).square().mean() < 0.01 * target.var()


KINDS = {
    'pointwise': {'kernel_size': 1},
    'strided': {'kernel_size': (3, 5), 'stride': 2, 'padding': (1, 2)},
    'dilated': {'kernel_size': 3, 'dilation': 2, 'padding': 'same'},
    'reflected': {'kernel_size': 3, 'padding': 1, 'padding_mode': 'reflect'},
    'grouped': {'kernel_size': 3, 'padding': 1, 'groups': 2},
    'depthwise': {'kernel_size': 3, 'padding': 1, 'groups': 8},
    'unbiased': {'kernel_size': 3, 'padding': 1, 'bias': False},
}


class Convolutions(torch.nn.Module):
    """A pointwise convolution, which mixes the channels, and one of a kind."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(3, 8, 1)
        self.second = torch.nn.Conv2d(8, 16, **KINDS[kind])

    def forward(self, x):
        return self.second(torch.nn.functional.leaky_relu(self.first(x) + 1))


@pytest.mark.parametrize('options', [{'equalize': True, 'granularity': 'channel'}, {'prune_ratio': 0.3}, {}], ids=str)
@pytest.mark.parametrize('kind', KINDS)
def test_quantized_convolutions_of_every_kind_are_refitted(kind, options):
    errors = []
    for config in ({}, {'reconstruct': True}):
        network = Convolutions(kind)
        quant = {'weight_bits': 3, 'act_bits': 4, 'quantize_convs': True, 'quantize_head_tail': True, **options}
        quantize_(network, QuantConfig(**quant))
        calibrated(network, **config)
        errors.append(loss(network, Convolutions(kind)))
        for layer in layers(network):
            values = torch.cat(layer.quantized_weights())
            if config:
                torch.testing.assert_close(layer.transformed_weight(), values, rtol=0, atol=1e-5)
    assert errors[1] < (0.85 if kind == 'depthwise' else 0.75) * errors[0]  # 9 weights have little to correct


@pytest.mark.parametrize('kind', KINDS)
def test_full_precision_convolutions_of_every_kind_are_refitted(kind):
    errors = []
    for config in ({}, {'reconstruct': True}):
        network = Convolutions(kind)
        quant = QuantConfig(weight_bits=3, act_bits=3, quantize_convs=True, quantize_head_tail=True)
        quantize_(network, quant.replace(exclude=('second',)))
        errors.append(loss(calibrated(network, **config), Convolutions(kind)))
    assert errors[1] < 0.95 * errors[0]


def test_patches_are_read_in_chunks(monkeypatch):
    conv = torch.nn.Conv2d(3, 4, 3, padding=1)
    x = torch.randn(2, 3, 9, 8)
    target = reconstruct._rows(conv, conv(x).detach(), reconstruct.ROWS)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    (whole,) = reconstruct._patches(conv, padded, target)
    monkeypatch.setattr(reconstruct, 'CHUNK', 50 * 27 * 8)
    parts = list(reconstruct._patches(conv, padded, target))
    assert [len(patches) for patches, _ in parts] == [50, 50, 44]
    assert all(torch.equal(torch.cat(tensors), one) for tensors, one in zip(zip(*parts), whole))
    predicted = torch.nn.functional.linear(whole[0], conv.weight.flatten(1), conv.bias)
    torch.testing.assert_close(predicted, whole[1])


def test_targets_fit_into_their_memory(monkeypatch):
    monkeypatch.setattr(reconstruct, 'FEWEST_ROWS', 100)
    monkeypatch.setattr(reconstruct, 'TARGETS', 2**17)
    network = student()
    targets = reconstruct.full_precision_targets(network, patches())
    assert 0.9 * 2**17 < sum(target.numel() * 4 for target in targets.values()) <= 2**17
    assert loss(calibrated(network, reconstruct=True), tiny_swinir()) < loss(calibrated(student()), tiny_swinir())


def test_the_last_of_three_convolutions_adds_to_the_stream():
    network = student(resi_connection='3conv')
    group = network.layers[0]
    assert [s.layer for s in residual_streams(network) if s.at is group] == [group.conv[-1]]


@pytest.mark.parametrize('quant', [{}, {'prune_ratio': 0.4}])
def test_values_are_read_as_often_for_a_wide_network_as_for_a_narrow_one(quant):
    """On a GPU each one waits, so none belongs into a loop over columns."""
    reads = set()
    for embed_dim in (12, 24):
        network = student(quant, embed_dim=embed_dim)
        with DeviceTraffic() as traffic:
            calibrated(network, reconstruct=True)
        reads.add(traffic.reads)
    assert len(reads) == 1 and max(reads) < 30 * len(quantizers(network))
