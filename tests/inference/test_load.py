"""Networks from files alone: whatever SwinIR they are of, and what is no network."""

from __future__ import annotations

import pytest
import torch
from basicsr.archs import build_network
from basicsr.archs.swinir_arch import SwinIR
from compsrt_runs import TINY, make_teacher

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.load import load_network
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.config import CalibrationConfig

SMALL = {'img_size': 64, 'window_size': 8, 'embed_dim': 12, 'depths': [1], 'num_heads': [2], 'mlp_ratio': 2.0}


def quantized(path, calibrated=True, **quant):
    torch.manual_seed(0)
    network = build_network({'type': 'CompSRTSwinIR', **TINY, 'quant': quant})
    if calibrated:
        calibrate(network, torch.rand(1, 3, 16, 16), CalibrationConfig(candidates=5), progress=False)
    torch.save({'params': network.state_dict()}, path)
    return network.eval()


@pytest.mark.parametrize(
    'changes',
    [
        {'upscale': 2, 'upsampler': 'pixelshuffledirect', 'depths': [2, 1], 'num_heads': [2, 3]},
        {
            'upscale': 3,
            'upsampler': 'pixelshuffle',
            'resi_connection': '3conv',
            'img_size': 48,
            'embed_dim': 24,
            'depths': [2],
        },
        {'upscale': 8, 'upsampler': 'pixelshuffle', 'window_size': 4},
        {'upscale': 4, 'upsampler': 'nearest+conv', 'mlp_ratio': 4.0},
        {'upscale': 1, 'upsampler': '', 'in_chans': 1, 'qkv_bias': False, 'patch_norm': False},
    ],
    ids=lambda changes: changes['upsampler'] or 'none',
)
@pytest.mark.parametrize('buffers', [True, False], ids=['whole', 'without buffers'])
def test_any_swinir_is_recognised(tmp_path, changes, buffers):
    arguments = {**SMALL, **changes}
    network = SwinIR(**arguments).eval()
    state = {k: v for k, v in network.state_dict().items() if buffers or k.rpartition('.')[2] not in
             ('attn_mask', 'relative_position_index')}  # fmt: skip
    torch.save({'params': state}, tmp_path / 'x.pth')
    loaded = load_network(tmp_path / 'x.pth')
    unknown = {'img_size'} if not buffers else set()
    assert {k: loaded.arguments[k] for k in arguments if k not in unknown} == {
        k: v for k, v in arguments.items() if k not in unknown
    }
    assert (loaded.scale, loaded.multiple) == (changes['upscale'], arguments['window_size'])
    assert (loaded.kind, loaded.quant) == ('full precision', None)
    picture = torch.rand(1, loaded.channels, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded.network(picture), network(picture))


@pytest.mark.parametrize(
    'quant', [{}, {'weight_bits': 3, 'granularity': 'channel'}, {'code_range': 'paper', 'transform': 'padded'}]
)
def test_a_checkpoint_of_ours_brings_its_network(tmp_path, quant):
    network = quantized(tmp_path / 'x.pth', **quant)
    loaded = load_network(tmp_path / 'x.pth')
    picture = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded.network(picture), network(picture))
    assert loaded.kind == 'quantized' and loaded.quant.items() >= quant.items()


def test_a_convolutional_network_inside_compsrtnet(tmp_path):
    base = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'upscale': 4}
    network = build_network({'type': 'CompSRTNet', 'base': base, 'quant': {'convs': True}})
    calibrate(network, torch.rand(1, 3, 16, 16), CalibrationConfig(candidates=5), progress=False)
    torch.save({'params': network.state_dict()}, tmp_path / 'x.pth')
    loaded = load_network(tmp_path / 'x.pth')
    assert (loaded.scale, loaded.multiple, loaded.channels, loaded.architecture) == (4, 1, 3, 'CompSRTNet')


def test_the_averaged_network_is_preferred(tmp_path):
    make_teacher(tmp_path / 'x.pth')
    state = torch.load(tmp_path / 'x.pth')['params']
    average = {k: torch.zeros_like(v) if k == 'conv_first.bias' else v for k, v in state.items()}
    torch.save({'params': state, 'params_ema': average}, tmp_path / 'x.pth')
    assert not load_network(tmp_path / 'x.pth').network.conv_first.bias.any()


def test_the_house_teacher_by_name():
    loaded = load_network('zoo://swinir_light_x2_house')
    assert (loaded.scale, loaded.multiple, sum(p.numel() for p in loaded.network.parameters())) == (2, 8, 910_152)


@pytest.mark.parametrize(
    ('state', 'text'),
    [
        ({'fc.weight': torch.ones(3)}, r'no SwinIR and no checkpoint of this package; it begins with `fc\.weight`'),
        ({'a.weight_quantizer.lower_bound': torch.ones(1)}, r"CompSRT's authors or of 2DQuant"),
        ({'quant_record.json': torch.tensor([1, 2], dtype=torch.uint8)}, 'record is not readable'),
    ],
)
def test_foreign_files_are_told(tmp_path, state, text):
    torch.save({'params': state}, tmp_path / 'x.pth')
    with pytest.raises(CompSRTError, match=rf'x\.pth` cannot be loaded: .*{text}'):
        load_network(tmp_path / 'x.pth')


def test_a_swinir_with_a_hole_is_told(tmp_path):
    make_teacher(tmp_path / 'x.pth')
    state = torch.load(tmp_path / 'x.pth')['params']
    for key in ('layers.0.residual_group.blocks.1.norm1.weight', 'layers.0.residual_group.blocks.0.mlp.fc1.weight'):
        broken = {k: v for k, v in state.items() if k != key}
        torch.save({'params': broken}, tmp_path / 'x.pth')
        with pytest.raises(CompSRTError, match=r'cannot be loaded: .*missing'):
            load_network(tmp_path / 'x.pth')


def test_an_uncalibrated_checkpoint_is_told(tmp_path):
    quantized(tmp_path / 'x.pth', calibrated=False)
    with pytest.raises(CompSRTError, match='is not calibrated'):
        load_network(tmp_path / 'x.pth')
