"""MambaIRv2Light: the equations, its routing, its files, wrong arguments, and what distillation compares.

mambairv2_light_tiny.npz is made by tests/archs/mambairv2_golden.py.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mambairv2_golden import FILE, TINY, image, weights

from compsrt_basicsr.archs.mambairv2_light_arch import MambaIRv2Light
from compsrt_basicsr.archs.routing import gumbel, permute_tokens, same_noise, sorting
from compsrt_basicsr.basicsr_compat.window_masks import shift_masks, window_kinds
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.checkpoints.mambairv2_shapes import mambairv2_light_arguments
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.models.weights import load_weights

pytestmark = pytest.mark.usefixtures('kernel_home')


def tiny(**changes):
    """The network of the golden file."""
    network = MambaIRv2Light(**{**TINY, **changes}).eval().requires_grad_(False)
    values = weights({name: tuple(value.shape) for name, value in network.named_parameters()})
    network.load_state_dict({name: torch.tensor(value) for name, value in values.items()}, strict=False)
    return network


def picture():
    return torch.tensor(image(), dtype=torch.float32)[None]


def test_golden():
    """The loops of the equations, in float64; outputs have a deviation of 16, sums in float32 another order."""
    expected = np.load(FILE)['output']
    assert np.abs(tiny()(picture())[0].numpy() - expected).max() < 1e-5 * expected.std()


def test_training_computes_the_same_and_every_parameter_gets_a_gradient():
    """The paths with and without gradients agree; the choice of prompts passes its gradient straight through."""
    network = tiny().requires_grad_(True)
    result = network(picture())
    with torch.no_grad():
        assert torch.allclose(network(picture()), result, atol=1e-3)
    result.square().mean().backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []


def test_images_of_a_batch_do_not_mix():
    network = tiny()
    images = torch.rand(3, 3, 9, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(network(images), torch.cat([network(x[None]) for x in images]), atol=1e-3)


@pytest.mark.parametrize('size', [(1, 1), (2, 3), (4, 4), (3, 17)])
def test_any_size(size):
    """Images smaller than a window too."""
    result = tiny()(torch.rand(1, 3, *size))
    assert result.shape == (1, 3, 2 * size[0], 2 * size[1]) and torch.isfinite(result).all()


def test_masks_are_those_of_the_definition():
    """Tokens of different parts of the shifted image do not see each other, whatever the number of windows."""
    window, shift, rows, columns = 4, 2, 3, 2
    masks, kinds = shift_masks(window, shift, torch.device('cpu')), window_kinds(rows, columns, torch.device('cpu'))
    parts = torch.zeros(rows * window, columns * window)
    for number, (top, bottom) in enumerate(((0, -window), (-window, -shift), (-shift, None))):
        for other, (left, right) in enumerate(((0, -window), (-window, -shift), (-shift, None))):
            parts[top:bottom, left:right] = 3 * number + other
    parts = parts.view(rows, window, columns, window).transpose(1, 2).reshape(rows * columns, -1)
    assert torch.equal(masks[kinds], -100.0 * (parts[:, :, None] != parts[:, None]))


def test_draws_repeat_in_eval_mode_and_differ_in_training():
    network = tiny(routing='sample')
    first = network(picture())
    assert torch.equal(network(picture()), first)
    assert not torch.equal(tiny(routing='sample', routing_seed=1)(picture()), first)
    network.routing = 'argmax'
    assert torch.equal(network(picture()), tiny()(picture())) and network.routing == 'argmax'
    network.routing = 'sample'
    network.train()
    assert not torch.equal(network(picture()), network(picture()))


def test_student_and_teacher_draw_the_same():
    teacher, student = tiny(routing='sample'), tiny(routing='sample', routing_seed=5).train()
    results = []
    for seed in (1, 2):
        with same_noise(seed, teacher, student):
            results.append(teacher(picture()))
            assert torch.equal(student(picture()), results[-1])
    assert not torch.equal(*results)
    assert not torch.equal(student(picture()), student(picture()))


def test_noise_is_gumbel():
    """Mean 0.5772 and variance pi^2 / 6, to five standard errors; the largest of scores is drawn by its share."""
    noise = gumbel(torch.zeros(200_000), torch.Generator().manual_seed(0))
    assert abs(float(noise.mean()) - 0.5772) < 0.015 and abs(float(noise.var()) - np.pi**2 / 6) < 0.06
    shares = torch.tensor([0.5, 0.3, 0.2])
    drawn = (shares.log() + gumbel(torch.zeros(100_000, 3), torch.Generator().manual_seed(1))).argmax(-1).bincount()
    assert torch.allclose(drawn / 100_000, shares, atol=0.01)


def test_sorting_is_stable_and_undone():
    index = torch.tensor([[2, 0, 2, 1, 0], [1, 1, 0, 0, 1]])
    order, inverse = sorting(index)
    assert order.tolist() == [1, 4, 3, 0, 2, 7, 8, 5, 6, 9]
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(permute_tokens(permute_tokens(x, order, inverse), inverse, order), x)
    assert torch.autograd.gradcheck(lambda x: permute_tokens(x, order, inverse), x)


@pytest.mark.parametrize('entry', ['params', 'params_ema', None])
def test_a_file_needs_no_option_file(entry, tmp_path):
    network = tiny(routing='sample')
    state = {f'module.{name}' if entry is None else name: value for name, value in network.state_dict().items()}
    torch.save(state if entry is None else {entry: state}, tmp_path / 'net.pth')
    loaded = load_network(tmp_path / 'net.pth')
    assert torch.equal(loaded.network(picture()), network(picture()))
    assert (loaded.scale, loaded.multiple, loaded.channels, loaded.kind) == (2, 4, 3, 'full precision')
    assert loaded.record['arch'] == 'MambaIRv2Light'
    bare = {name: value for name, value in state.items() if 'relative_position_index' not in name}
    torch.save(bare, tmp_path / 'bare.pth')
    assert torch.equal(load_network(tmp_path / 'bare.pth').network(picture()), network(picture()))


def test_arguments_show_in_the_shapes():
    given = {**TINY, 'upscale': 3, 'qkv_bias': False, 'patch_norm': False, 'in_chans': 1}
    found = mambairv2_light_arguments(MambaIRv2Light(**given).state_dict())
    assert {key: found[key] for key in given if key != 'routing'} == {k: v for k, v in given.items() if k != 'routing'}


def renamed(state, old, new):
    return {name.replace(old, new): value for name, value in state.items()}


def test_other_versions_are_named(tmp_path):
    """Weights of MambaIRv2 (another MLP) and of the first MambaIR."""
    state = tiny().state_dict()
    larger = renamed(state, '.sg.conv.', '.dwconv.depthwise_conv.0.')
    first = renamed({k: v for k, v in larger.items() if 'dwconv' not in k}, '.assm.selectiveScan.', '.self_attention.')
    for name, weights_of, expected in (('2', larger, 'MambaIRv2, not'), ('1', first, 'MambaIR, the first')):
        torch.save({'params': weights_of}, tmp_path / f'{name}.pth')
        with pytest.raises(CompSRTError, match=expected):
            load_network(tmp_path / f'{name}.pth')
        with pytest.raises(CompSRTError, match=expected):
            load_weights(tiny(), str(tmp_path / f'{name}.pth'), True, 'params', False)


def test_another_scale_and_damage_are_one_sentence(tmp_path):
    torch.save({'params': tiny(upscale=4).state_dict()}, tmp_path / 'x4.pth')
    with pytest.raises(CompSRTError, match=r'another scale: x4, the network is x2'):
        load_weights(tiny(), str(tmp_path / 'x4.pth'), True, 'params', False)
    state = tiny().state_dict()
    state['layers.0.residual_group.layers.0.assm.selectiveScan.dt_projs_weight'] = torch.zeros(1, 18, 7)
    torch.save({'params': state}, tmp_path / 'rank.pth')
    with pytest.raises(CompSRTError, match='rank 7'):
        load_network(tmp_path / 'rank.pth')


def test_a_small_file_builds_no_large_network(tmp_path):
    """Shapes without elements cost a file nothing."""
    state = tiny().state_dict()
    state['layers.0.residual_group.layers.0.assm.embeddingB.weight'] = torch.zeros(2**40, 0)
    torch.save({'params': state}, tmp_path / 'huge.pth')
    with pytest.raises(CompSRTError):
        load_network(tmp_path / 'huge.pth')


@pytest.mark.parametrize(
    ('changes', 'named'),
    [
        ({'depths': [2], 'num_heads': [2, 2]}, ('depths', 'num_heads')),
        ({'num_heads': [5, 2]}, ('embed_dim', 'num_heads')),
        ({'window_size': 5}, ('window_size',)),
        ({'mlp_ratio': 0.3}, ('mlp_ratio',)),
        ({'upscale': 5}, ('upscale',)),
        ({'routing': 'mean'}, ('routing',)),
        ({'ape': True, 'upsampler': 'pixelshuffle'}, ('ape', 'upsampler')),
    ],
)
def test_wrong_arguments_are_named(changes, named):
    with pytest.raises(CompSRTError) as caught:
        MambaIRv2Light(**{**TINY, **changes})
    assert all(f'`{name}`' in str(caught.value) for name in named)


@pytest.mark.data
@pytest.mark.parametrize('scale', [2, 4])
def test_published_network(scale):
    """With the official weights, the outputs of an implementation that equals the official one.

    Needs `COMPSRT_MAMBAIRV2`, a folder with mambairv2_light_xS.pth, and mambairv2_light_xS.npz with `lr` and `sr`.
    """
    if 'COMPSRT_MAMBAIRV2' not in os.environ:
        pytest.skip('COMPSRT_MAMBAIRV2 is not set')
    folder = Path(os.environ['COMPSRT_MAMBAIRV2'])
    network = load_network(folder / f'mambairv2_light_x{scale}.pth').network
    network.routing = 'argmax'
    golden = np.load(folder / f'mambairv2_light_x{scale}.npz')
    with torch.no_grad():
        result = network(torch.from_numpy(golden['lr']).permute(2, 0, 1)[None] / 255)[0]
    assert np.abs(result.numpy() - golden['sr']).max() < 1e-4
