"""Networks on a GPU: nothing is copied there but the image, nothing is read back, and masks are made once."""

from functools import partial

import pytest
import torch
from basicsr.archs import build_network
from basicsr.archs.swinir_arch import SwinIR, SwinTransformerBlock
from device_traffic import META, DeviceTraffic, on_gpu, without_autocast
from tiny_networks import TINY, tiny_quantized, tiny_swinir

from compsrt_basicsr.archs.routing import NoisyNetwork
from compsrt_basicsr.basicsr_compat.swinir_device import block_forward
from compsrt_basicsr.basicsr_compat.window_masks import window_masks
from compsrt_basicsr.integer.execution import set_execution_
from compsrt_basicsr.quant.quantizer import quantizers

MAMBA = {
    'type': 'MambaIRv2Light',
    'embed_dim': 12,
    'depths': [2],
    'num_heads': [2],
    'window_size': 8,
    'd_state': 4,
    'inner_rank': 4,
    'num_tokens': 8,
}
PLAIN = {'type': 'SwinIR', **TINY}
OURS = {'type': 'CompSRTSwinIR', **TINY}
NETWORKS = {
    'SwinIR': PLAIN,
    'SwinIR of x2 for real images': {**PLAIN, 'upsampler': 'nearest+conv'},
    'CompSRTSwinIR': OURS,
    'CompSRTSwinIR, pruned': {**OURS, 'quant': {'prune_ratio': 0.4, 'act_granularity': 'token'}},
    'CompSRTSwinIR, as published': {**OURS, 'quant': {'code_range': 'paper', 'transform': 'padded'}},
    'CompSRTNet of SwinIR': {'type': 'CompSRTNet', 'base': PLAIN, 'quant': {'quantize_convs': True, 'equalize': True}},
    'MambaIRv2Light': MAMBA,
    'CompSRTNet of MambaIRv2Light': {
        'type': 'CompSRTNet',
        'base': MAMBA,
        'quant': {'quantize_products': True, 'quantize_convs': True, 'quantize_scan': True},
    },
}
SIDES = (16, 24)  # img_size of the SwinIRs, and another


@pytest.fixture(params=NETWORKS)
def network(request, monkeypatch):
    monkeypatch.setattr(NoisyNetwork, 'generator', lambda *_: None)  # a generator needs a real device
    built = build_network(NETWORKS[request.param])
    for quantizer in quantizers(built).values():
        quantizer.mark_calibrated()
    return built


@pytest.mark.parametrize('training', [False, True])
def test_a_pass_copies_nothing_and_reads_nothing(network, training):
    network.train(training)
    network.requires_grad_(training)
    with on_gpu(network) as gpu, torch.set_grad_enabled(training), DeviceTraffic() as traffic:
        for side in SIDES:
            assert network(torch.empty(2, 3, side, side, device=gpu)).device == gpu
    assert traffic.found == []


def test_a_training_step_copies_nothing_and_reads_nothing(network, monkeypatch):
    without_autocast(monkeypatch)
    network.train().to(META)
    with DeviceTraffic() as traffic:
        for side in SIDES:
            (network(torch.empty(2, 3, side, side, device=META)) - 1).abs().mean().backward()
    assert traffic.found == []


def test_integer_execution_copies_nothing_and_reads_nothing():
    network = tiny_quantized()
    set_execution_(network, 'integer')
    with on_gpu(network) as gpu, torch.no_grad():
        network(torch.empty(1, 3, 16, 16, device=gpu))  # prepares the codes
        with DeviceTraffic() as traffic:
            for side in SIDES:
                network(torch.empty(1, 3, side, side, device=gpu))
    assert traffic.found == []


def test_traffic_is_seen():
    """The test of the test."""
    network = torch.nn.Linear(3, 4)
    with on_gpu(network) as gpu, DeviceTraffic() as traffic:
        y = network(torch.ones(2, 3).to(gpu)) + torch.tensor(2.0)
        y.cpu()
        torch.empty(4, device=gpu)[torch.arange(2)]
        with pytest.raises(Exception, match=r'.'):
            float(y.sum())
    assert [text.split()[0] for text in traffic.found] == ['_to_copy', '_to_copy', 'index']
    assert traffic.reads == 1


@pytest.mark.parametrize('sides', [(16, 16), (16, 8), (8, 32), (24, 40)])
def test_blocks_compute_the_same_as_those_of_basicsr(sides):
    """To the last bit, values and gradients, with and without a shift."""
    block_of_basicsr = SwinTransformerBlock.forward.__wrapped__
    for block in tiny_swinir(embed_dim=12, depths=(2,)).layers[0].residual_group.blocks:
        results = []
        x = torch.randn(2, sides[0] * sides[1], 12)
        for forward in (block_of_basicsr, partial(block_forward, block_of_basicsr)):
            tokens = x.clone().requires_grad_()
            y = forward(block, tokens, sides)
            results.append([y, *torch.autograd.grad(y.square().sum(), [tokens, *block.parameters()])])
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(*results))


@pytest.mark.parametrize('make', [tiny_swinir, tiny_quantized])
def test_blocks_share_one_mask(make):
    """That of the last size; blocks that do not shift their windows have none."""
    network, seen = make(depths=(4,)), []
    for block in network.layers[0].residual_group.blocks:
        block.attn.register_forward_pre_hook(lambda _, args, named: seen.append(named['mask']), with_kwargs=True)
    for _ in range(2):
        with torch.inference_mode():
            network(torch.rand(1, 3, 24, 32))
    assert [mask is None for mask in seen] == [True, False] * 4
    assert len({id(mask) for mask in seen[1::2]}) == 1 and not seen[1].is_inference()


def test_masks_of_large_images_are_not_kept():
    device = torch.device('cpu')
    small, large = (8, 4, 3, 5, device), (16, 8, 30, 40, device)
    assert window_masks(*small) is window_masks(*small)
    assert window_masks(*large) is not window_masks(*large)
    assert torch.equal(window_masks(*large)[-1], window_masks(16, 8, 2, 2, device)[-1])


def test_mean_moves_with_the_network_but_is_not_saved():
    network = SwinIR(**TINY)
    assert 'mean' not in network.state_dict()
    assert network.to(META).mean.device == META
