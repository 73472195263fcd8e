"""SwinIR on integer codes: attention, blocks and whole networks compared with fake quantization."""

import copy
import logging

import pytest
import torch
from basicsr.archs import build_network
from basicsr.archs.swinir_arch import SwinIR
from tiny_networks import TINY

from compsrt_basicsr.archs import swinir_integer
from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.integer import execution
from compsrt_basicsr.integer.execution import Executor, set_execution_
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.code_usage import counting_codes, summarize
from compsrt_basicsr.quant.equalization import equalize_


@pytest.fixture(autouse=True)
def kernels(kernel_home):
    """All tests here run the kernels, unless they ask for `no_kernels`."""


def network(quant=None, **changes):
    """A calibrated network with weights as large as trained ones, frozen."""
    torch.manual_seed(0)
    net = CompSRTSwinIR(**{**TINY, **changes}, quant=quant).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if 'quantizer' not in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    side = 2 * net.window_size
    equalize_(net, pictures(side, side))
    calibrate(net, pictures(side, side), CalibrationConfig(candidates=10), progress=False)
    return net.requires_grad_(False)


def pictures(height, width, batch=2):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def captured(net, module, x):
    """The arguments a module is called with."""
    seen = []
    handle = module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments))
    net(x)
    handle.remove()
    return seen[0]


def error(result, expected):
    return ((result - expected).norm() / expected.norm()).item()


def equal_but_for_moved_codes(result, expected):
    """Most values equal to rounding, all of them near.

    Sums in another order differ by 1e-7, which moves a code that lies on the edge of its step; at k or v that reaches a
    whole window, a twelfth of the smallest image here. Few of the windows have one.
    """
    return (result - expected).abs().median() < 1e-6 and error(result, expected) < 2e-2


SHAPES = [
    {},  # head size 6, a conference matrix
    {'embed_dim': 60, 'num_heads': (6,)},  # those of SwinIR-light
    {'window_size': 7, 'img_size': 14},  # 49 tokens fill no whole vector
    {'embed_dim': 40, 'num_heads': (2,), 'mlp_ratio': 1},  # a head wider than one vector
]


@pytest.mark.parametrize('changes', SHAPES)
@pytest.mark.parametrize(
    'quant',
    [
        {},
        {'weight_bits': 2, 'act_bits': 8, 'granularity': 'channel', 'transform': 'none'},
        {'granularity': 'channel', 'act_granularity': 'token', 'equalize': True, 'transform': 'random'},
    ],
    ids=['tensor', 'channel', 'token'],
)
@pytest.mark.parametrize('index', [0, 1])
def test_block_equals_fake_quantization(changes, quant, index):
    """A block without and one with cyclic shift, at another size than img_size."""
    side = changes.get('window_size', 8)
    net = network(quant, **changes)
    block = net.layers[0].residual_group.blocks[index]
    x, size = captured(net, block, pictures(2 * side, 3 * side))
    expected = block(x, size)
    assert set_execution_(block, 'integer').layers == {'': 'kernel'}
    assert equal_but_for_moved_codes(block(x, size), expected)


@pytest.mark.parametrize('changes', SHAPES)
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('way', ['kernel', 'torch'])
@pytest.mark.parametrize(
    'quant',
    [
        {},
        {'softmax': 'deferred', 'attention_transform': False, 'act_bits': 3},
        {'granularity': 'channel', 'act_granularity': 'token', 'equalize': True},
    ],
    ids=['plain', 'deferred', 'token'],
)
def test_attention_equals_fake_quantization(changes, masked, way, quant, request):
    if way == 'torch':
        request.getfixturevalue('no_kernels')
    net = network(quant, **changes)
    attention = net.layers[0].residual_group.blocks[1].attn
    side = changes.get('window_size', 8)
    x, *_ = captured(net, attention, pictures(2 * side, 2 * side))
    mask = net.layers[0].residual_group.blocks[1].calculate_mask((2 * side, 2 * side)) if masked else None
    expected = attention(x, mask=mask)
    assert set_execution_(attention, 'integer').layers == {'': way}
    assert equal_but_for_moved_codes(attention(x, mask=mask), expected)
    assert not torch.equal(attention(x, mask=mask), expected)  # computed on codes


@pytest.mark.parametrize('bits', [2, 4, 8])
def test_network_is_near_fake_quantization(bits):
    """The difference, from single codes that rounding errors move, is far below the quantization error."""
    net = network({'weight_bits': bits, 'act_bits': bits})
    float_net = SwinIR(**TINY, drop_path_rate=0).eval()
    float_net.load_state_dict(net.state_dict(), strict=False)
    x = pictures(24, 40)
    fake, full = net(x), float_net(x)
    report = set_execution_(net, 'integer')
    assert set(report.layers.values()) == {'kernel'} and len(report.layers) == 2
    assert not torch.equal(net(x), fake)
    assert (net(x) - fake).norm() < 0.2 * (fake - full).norm()


def test_torch_computes_what_the_kernels_do(request):
    net, x = network({'weight_bits': 8, 'act_bits': 8}), pictures(16, 24)
    twin = copy.deepcopy(net)
    set_execution_(net, 'integer')
    kernel = net(x)
    request.getfixturevalue('no_kernels')
    report = set_execution_(twin, 'integer')
    assert set(report.layers.values()) == {'torch'} and len(report.layers) == 2 * 3
    assert error(twin(x), kernel) < 1e-4  # 8 bits: a moved code is a small step


def test_layers_run_on_codes_where_a_block_cannot(request):
    """A network may move to a GPU after `set_execution_`; there are no kernels for its blocks there."""
    net, x = network({'weight_bits': 8, 'act_bits': 8}), pictures(16, 24)
    twin, fake = copy.deepcopy(net), net(x)
    assert set(set_execution_(net, 'integer').layers.values()) == {'kernel'}
    request.getfixturevalue('no_kernels')
    set_execution_(twin, 'integer')
    with pytest.MonkeyPatch.context() as patch:
        for module in (execution, swinir_integer):
            patch.setattr(module, 'on_cpu', lambda module: False)
        moved = net(x)
    assert torch.equal(moved, twin(x)) and not torch.equal(moved, fake)


def test_switched_on_by_the_options(tmp_path):
    """`execution` belongs to the run, not to the checkpoint: either kind loads the other's."""
    net, x = network(), pictures(16, 16)
    torch.save({'params': net.state_dict()}, tmp_path / 'net.pth')
    other = build_network({'type': 'CompSRTSwinIR', **TINY, 'quant': {'execution': 'integer'}}).eval()
    other.load_state_dict(torch.load(tmp_path / 'net.pth')['params'])
    with torch.no_grad():
        result = other(x)
    set_execution_(net, 'integer')
    assert torch.equal(result, net(x))
    net.load_state_dict(other.state_dict())


def test_any_registered_network():
    base = {'type': 'SwinIR', **TINY}
    net = build_network({'type': 'CompSRTNet', 'base': base, 'quant': {'execution': 'integer'}})
    executed = {type(m).__name__ for m in net.modules() if isinstance(m.__dict__.get('forward'), Executor)}
    assert executed == {'SwinTransformerBlock', 'QuantWindowAttention', 'QuantLinear'}
    with pytest.raises(CompSRTError, match='convolutions'):
        base = {'type': 'SRVGGNetCompact_basicsr', 'num_feat': 8, 'num_conv': 1}
        build_network({'type': 'CompSRTNet', 'base': base, 'quant': {'quantize_convs': True, 'execution': 'integer'}})


def test_block_with_a_float_layer_runs_layer_by_layer():
    net = network({'exclude': ['*.fc2']})
    x = pictures(16, 16)
    fake = net(x)
    report = set_execution_(net, 'integer')
    assert [name.rpartition('blocks.')[2] for name in report.layers] == ['0.attn', '0.mlp.fc1', '1.attn', '1.mlp.fc1']
    assert error(net(x), fake) < 1e-2


def test_codes_are_counted_as_before():
    net, x = network(), pictures(16, 16)
    with counting_codes(net) as before:
        net(x)
    set_execution_(net, 'integer')
    with counting_codes(net) as after:
        net(x)
    assert summarize(before) == summarize(after) == {'levels_max': 16, 'levels_over': 0}


def test_nan_stays_in_its_window():
    net = network()
    block = net.layers[0].residual_group.blocks[0]
    x, size = captured(net, block, pictures(16, 16, batch=1))
    x = x.clone()
    x[0, 0, 0] = torch.nan
    expected = torch.isnan(block(x, size))
    set_execution_(block, 'integer')
    assert torch.equal(torch.isnan(block(x, size)), expected)
    assert expected.any(-1).sum() == 64


def test_odd_image_sizes_fail_as_before():
    net = network()
    set_execution_(net, 'integer')
    with pytest.raises(RuntimeError, match='shape'):
        net(pictures(15, 16))


def test_wrong_kernels_are_not_used(monkeypatch, caplog):
    from compsrt_basicsr.integer import cpp_kernels

    right = cpp_kernels.product
    monkeypatch.setattr(cpp_kernels, 'product', lambda library, a, w: right(library, a, w) ^ 1)
    cpp_kernels.kernel_is_right.cache_clear()
    net, x = network(), pictures(16, 16)
    fake = net(x)
    try:
        with caplog.at_level(logging.WARNING):
            assert set(set_execution_(net, 'integer').layers.values()) == {'torch'}
    finally:
        monkeypatch.undo()
        cpp_kernels.kernel_is_right.cache_clear()
    assert any('wrong on this machine' in message for message in caplog.messages)
    assert error(net(x), fake) < 1e-2
