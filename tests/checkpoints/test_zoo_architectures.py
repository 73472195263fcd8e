"""Every model of the package's zoo is one that the loader can take.

The files of the others are not here. Stand-ins have the names and shapes of the published files, written down from the
definition of the network in the SwinIR repository, without the code of this package or BasicSR.
"""

from __future__ import annotations

import functools
import re

import pytest
import torch
from torch.nn.functional import conv2d, interpolate, leaky_relu

from compsrt_basicsr.archs.mambairv2_light_arch import MambaIRv2Light
from compsrt_basicsr.archs.spandrel_arch import build_spandrel
from compsrt_basicsr.basicsr_compat.swinir import SwinIR
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.checkpoints.mambairv2_shapes import mambairv2_light_arguments
from compsrt_basicsr.checkpoints.swinir_shapes import swinir_arguments
from compsrt_basicsr.hub.catalog import PACKAGE
from compsrt_basicsr.hub.index import read_index

WINDOW, IMAGE, FEATURES = 8, 64, 64
ENTRIES = read_index(PACKAGE)
PUBLISHED = [name for name, entry in ENTRIES.items() if entry.urls and entry.architecture.startswith('SwinIR')]
MAMBAIRV2 = [name for name, entry in ENTRIES.items() if entry.architecture.startswith('MambaIRv2Light')]
DCTLSA = [name for name, entry in ENTRIES.items() if entry.architecture.startswith('spandrel: DCTLSA')]


def stated(entry):
    """The arguments that the text of an entry states."""
    text = re.sub(r'^\w+: ', '', entry.architecture)
    lists = {}
    for key in ('depths', 'num_heads'):
        times, values = re.search(rf'{key} (?:(\d+) x )?\[([\d, ]+)\]', text).groups()
        lists[key] = [int(value) for value in values.split(',')] * int(times or 1)
    return {
        'upscale': entry.scale,
        'embed_dim': int(re.search(r'embed_dim (\d+)', text)[1]),
        'mlp_ratio': float(re.search(r'mlp_ratio (\d+)', text)[1]),
        'window_size': int(re.search(r'window_size (\d+)', text)[1]),
        'upsampler': re.search(r'nearest\+conv|pixelshuffle\w*', text)[0],
        'resi_connection': '3conv' if '3conv' in text else '1conv',
        **lists,
    }


def published_shapes(upscale, embed_dim, depths, num_heads, mlp_ratio, window_size, upsampler, resi_connection):
    """Name to shape, as in a published file."""
    dim, hidden, shapes = embed_dim, int(embed_dim * mlp_ratio), {}

    def affine(name, *shape):
        shapes[f'{name}.weight'], shapes[f'{name}.bias'] = shape, shape[:1]

    def convolution(name, outputs, inputs, side=3):
        affine(name, outputs, inputs, side, side)

    def residual(name):
        if resi_connection == '1conv':
            return convolution(name, dim, dim)
        convolution(f'{name}.0', dim // 4, dim)
        convolution(f'{name}.2', dim // 4, dim // 4, 1)
        return convolution(f'{name}.4', dim, dim // 4)

    convolution('conv_first', dim, 3)
    affine('patch_embed.norm', dim)
    for group, (depth, heads) in enumerate(zip(depths, num_heads)):
        for block in range(depth):
            name = f'layers.{group}.residual_group.blocks.{block}'
            affine(f'{name}.norm1', dim)
            shapes[f'{name}.attn.relative_position_bias_table'] = ((2 * window_size - 1) ** 2, heads)
            shapes[f'{name}.attn.relative_position_index'] = (window_size**2, window_size**2)
            affine(f'{name}.attn.qkv', 3 * dim, dim)
            affine(f'{name}.attn.proj', dim, dim)
            affine(f'{name}.norm2', dim)
            affine(f'{name}.mlp.fc1', hidden, dim)
            affine(f'{name}.mlp.fc2', dim, hidden)
            if block % 2:
                shapes[f'{name}.attn_mask'] = ((IMAGE // window_size) ** 2, window_size**2, window_size**2)
        residual(f'layers.{group}.conv')
    affine('norm', dim)
    residual('conv_after_body')
    if upsampler == 'pixelshuffledirect':
        convolution('upsample.0', 3 * upscale**2, dim)
        return shapes
    convolution('conv_before_upsample.0', FEATURES, dim)
    if upsampler == 'pixelshuffle':
        steps = [3] if upscale == 3 else [2] * (upscale.bit_length() - 1)
        for number, step in enumerate(steps):
            convolution(f'upsample.{2 * number}', step**2 * FEATURES, FEATURES)
    else:
        convolution('conv_up1', FEATURES, FEATURES)
        if upscale == 4:
            convolution('conv_up2', FEATURES, FEATURES)
        convolution('conv_hr', FEATURES, FEATURES)
    convolution('conv_last', 3, FEATURES)
    return shapes


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_loader_knows_the_published_file(name, monkeypatch):
    """As the entry states it; the sides of the masks and all names and shapes follow."""
    wanted = stated(ENTRIES[name])
    shapes = published_shapes(**wanted)
    arguments = swinir_arguments({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()})
    assert {key: arguments[key] for key in wanted} == wanted
    monkeypatch.setattr(torch, 'linspace', functools.partial(torch.linspace, device='cpu'))  # SwinIR reads its numbers
    with torch.device('meta'):
        network = SwinIR(**arguments)
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == shapes


@pytest.mark.parametrize('name', MAMBAIRV2)
def test_the_loader_knows_the_mambairv2_light(name):
    """As the entry states it; the published file has this many named tensors and parameters."""
    wanted = {key: value for key, value in stated(ENTRIES[name]).items() if key not in ('upsampler', 'resi_connection')}
    network = MambaIRv2Light(**wanted)
    arguments = mambairv2_light_arguments(network.state_dict())
    assert {key: arguments[key] for key in wanted} == wanted
    parameters = {2: 774_092, 3: 780_587, 4: 789_680}
    assert sum(p.numel() for p in network.parameters()) == parameters[ENTRIES[name].scale]
    assert len(network.state_dict()) == 1019


@pytest.mark.parametrize('name', DCTLSA)
def test_the_loader_knows_the_dctlsa(name, tmp_path):
    """As the entry states it; the published file has this many named tensors and numbers, without a prefix."""
    entry = ENTRIES[name]
    channels, heads = map(int, re.search(r'(\d+) channels, (\d+) heads', entry.architecture).groups())
    wanted = {'in_nc': 3, 'out_nc': 3, 'nf': channels, 'num_head': heads, 'num_modules': 6, 'upscale': entry.scale}
    theirs = build_spandrel('DCTLSA', wanted).model.state_dict()
    numbers = {2: 872_800, 3: 880_240, 4: 890_656}
    assert (len(theirs), sum(value.numel() for value in theirs.values())) == (546, numbers[entry.scale])
    torch.save(theirs, tmp_path / entry.file)
    loaded = load_network(tmp_path / entry.file)
    assert loaded.scale == entry.scale and loaded.record['args'] == {'arch': 'DCTLSA', 'args': wanted}


@pytest.mark.parametrize('name', sorted(ENTRIES.keys() - {*PUBLISHED, *MAMBAIRV2, *DCTLSA}))
def test_the_loader_knows_the_packaged_file(name):
    loaded = load_network(f'zoo://{name}')
    wanted = stated(ENTRIES[name].model_copy(update={'architecture': ENTRIES[name].architecture.partition(': ')[2]}))
    assert loaded.scale == ENTRIES[name].scale and loaded.record['arch'] == ENTRIES[name].architecture.partition(':')[0]
    assert {key: loaded.record['args'][key] for key in wanted} == wanted


def test_a_network_for_real_images_doubles_once(tmp_path):
    """A tiny ×2 file: the tail is computed here once more, from its description."""
    shapes = published_shapes(2, 12, [2], [2], 2.0, WINDOW, 'nearest+conv', '1conv')
    reference = SwinIR(upscale=4, img_size=IMAGE, window_size=WINDOW, depths=[2], embed_dim=12, num_heads=[2],
                       mlp_ratio=2, upsampler='nearest+conv').eval()  # fmt: skip
    state = {key: value for key, value in reference.state_dict().items() if not key.startswith('conv_up2')}
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes
    torch.save({'params_ema': state}, tmp_path / 'real_x2.pth')
    loaded = load_network(tmp_path / 'real_x2.pth')
    assert (loaded.scale, loaded.record['args']['upsampler']) == (2, 'nearest+conv')
    images = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        shallow = reference.conv_first(images - reference.mean)
        deep = reference.conv_after_body(reference.forward_features(shallow)) + shallow
        x = conv2d(deep, *weights(state, 'conv_before_upsample.0'), padding=1)
        x = interpolate(leaky_relu(x), scale_factor=2)
        for name in ('conv_up1', 'conv_hr'):
            x = leaky_relu(conv2d(x, *weights(state, name), padding=1), 0.2)
        expected = conv2d(x, *weights(state, 'conv_last'), padding=1) + reference.mean
        assert torch.allclose(loaded.network(images), expected, atol=1e-5)


def weights(state, name):
    return state[f'{name}.weight'], state[f'{name}.bias']
