"""Networks from their files alone: the same output as the network that was saved, and the faults of files."""

import re

import pytest
import torch
from basicsr.archs.swinir_arch import SwinIR
from tiny_networks import TINY, pictures, tiny_edsr, tiny_quantized, tiny_swinir

from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT, CompSRTSwinIR
from compsrt_basicsr.checkpoints.formats import FORMATS
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.checkpoints.save import save_checkpoint
from compsrt_basicsr.checkpoints.swinir_shapes import swinir_arguments
from compsrt_basicsr.errors import CompSRTError


def save(path, network, key='params'):
    torch.save({key: network.state_dict()}, path)
    return path


def same_output(first, second, size=(16, 24)):
    with torch.no_grad():
        return torch.equal(first(pictures(*size)), second(pictures(*size)))


@pytest.mark.parametrize(
    'quant',
    [{}, {'weight_bits': 3, 'act_bits': 8}, {'code_range': 'paper', 'transform': 'padded'}, {'granularity': 'channel'}],
    ids=str,
)
def test_own_checkpoint(tmp_path, quant):
    network = tiny_quantized(quant)
    loaded = load_network(save(tmp_path / 'net.pth', network))
    assert (loaded.scale, loaded.multiple, loaded.channels, loaded.kind) == (2, 8, 3, 'quantized')
    assert not loaded.network.training and not any(p.requires_grad for p in loaded.network.parameters())
    assert same_output(loaded.network, network)


def test_saved_checkpoint(tmp_path):
    network = tiny_quantized()
    save_checkpoint(network.state_dict(), tmp_path / 'net.pth')
    assert same_output(load_network(tmp_path / 'net.pth').network, network)
    with pytest.raises(CompSRTError, match=r'call it `net\.pth`'):
        save_checkpoint(network.state_dict(), tmp_path / 'net.safetensors')


def test_own_checkpoint_of_a_convolutional_network(tmp_path):
    network = tiny_edsr()
    loaded = load_network(save(tmp_path / 'net.pth', network))
    assert (loaded.scale, loaded.multiple, loaded.channels, loaded.kind) == (2, 1, 3, 'quantized')
    assert same_output(loaded.network, network, (9, 11))


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'img_size': 24},
        {'upsampler': 'pixelshuffle', 'upscale': 4},
        {'upsampler': 'pixelshuffle', 'upscale': 3},
        {'upsampler': 'pixelshuffle', 'upscale': 8},
        {'upsampler': 'nearest+conv', 'upscale': 4},
        {'upsampler': 'nearest+conv', 'upscale': 2},
        {'upsampler': '', 'upscale': 1, 'in_chans': 1},
        {'upsampler': '', 'upscale': 1, 'window_size': 7, 'img_size': 21, 'img_range': 255.0},
        {'resi_connection': '3conv', 'upscale': 3},
        {'ape': True},
        {'qkv_bias': False, 'patch_norm': False},
        {'depths': (1, 2), 'num_heads': (2, 3)},
        {'mlp_ratio': 1.3},
    ],
    ids=str,
)
def test_full_precision_arguments_follow_from_shapes(changes):
    """With the masks in the file, as BasicSR and the official files have them."""
    network = tiny_swinir(**changes)
    arguments = swinir_arguments(network.state_dict())
    again = SwinIR(**arguments).eval()
    again.load_state_dict(network.state_dict())
    for name in ('upscale', 'img_range', 'upsampler'):
        assert arguments[name] == {**TINY, 'img_range': 1.0, **changes}[name]
    side = network.patch_embed.img_size[0]
    picture = pictures(side, side)[:, : arguments['in_chans']]
    with torch.no_grad():
        assert torch.equal(again(picture), network(picture))


def test_full_precision_checkpoint(tmp_path):
    network = tiny_swinir()
    loaded = load_network(save(tmp_path / 'net.pth', network))
    assert (loaded.scale, loaded.multiple, loaded.channels, loaded.kind) == (2, 8, 3, 'full precision')
    assert same_output(loaded.network, network) and same_output(loaded.network, network, (16, 16))


@pytest.mark.parametrize('name', ['zoo://swinir_light_x2_house', 'swinir_light_x2_house'])
def test_packaged_teacher(name):
    loaded = load_network(name)
    assert (loaded.scale, loaded.kind, loaded.source) == (2, 'full precision', 'zoo://swinir_light_x2_house')
    known = {key: list(value) if isinstance(value, tuple) else value for key, value in SWINIR_LIGHT.items()}
    assert known.items() <= loaded.record['args'].items()


def test_averaged_weights_are_preferred(tmp_path):
    plain, average = tiny_swinir(), tiny_swinir()
    with torch.no_grad():
        average.conv_first.weight.mul_(0.5)
    torch.save({'params': plain.state_dict(), 'params_ema': average.state_dict()}, tmp_path / 'net.pth')
    assert same_output(load_network(tmp_path / 'net.pth').network, average)


def authors_state(offsets):
    """A state dict with the keys of the authors' code (offsets) or of 2DQuant, and the network that it stands for."""
    network = tiny_quantized({'code_range': 'paper', 'transform': 'padded' if offsets else 'none', 'weight_bits': 3})
    parts = {'lower': 'lower_bound', 'upper': 'upper_bound'}
    parts |= {'scale_offset': 'alpha', 'zero_offset': 'beta_Z'} if offsets else {}
    operands = {f'{name}_quantizer': f'mymodule_{name[0]}' for name in ('q', 'k', 'v', 'attn')}
    state = {}
    for key, value in network.state_dict().items():
        owner, _, part = key.rpartition('.')
        head, _, last = owner.rpartition('.')
        if match := re.fullmatch(r'(.*\.qkv)\.(weight|bias)', key):
            state |= {f'{match[1]}.{p}.{match[2]}': third for p, third in zip('qkv', value.chunk(3))}
        elif not last.endswith('_quantizer'):
            state |= {} if 'quant_record' in key else {key: value}
        elif part in parts:
            owner = f'{head}.{operands.get(last, last)}'
            state[f'{owner}.{parts[part]}'] = value.reshape(1)
            state[f'{owner}.n_bit'] = torch.tensor([3.0 if 'weight' in last else 4.0])
    return state, network


@pytest.mark.parametrize('offsets', [True, False])
def test_foreign_quantized_checkpoints(tmp_path, offsets):
    state, network = authors_state(offsets)
    torch.save({'params': state}, tmp_path / 'net.pth')
    loaded = load_network(tmp_path / 'net.pth')
    recognised = next(known.name for known in FORMATS if known.recognises(state))
    assert ('authors' if offsets else '2DQuant') in recognised
    assert loaded.record['quant'] == {
        'code_range': 'paper',
        'transform': 'padded' if offsets else 'none',
        'weight_bits': 3,
        'act_bits': 4,
    }
    assert same_output(loaded.network, network)


BLOCK = 'layers.0.residual_group.blocks.0'


def without(pattern):
    return {key: value for key, value in tiny_swinir().state_dict().items() if not re.search(pattern, key)}


def uncalibrated():
    return CompSRTSwinIR(**TINY).state_dict()


def with_record(text):
    state = tiny_quantized().state_dict()
    return {**state, 'quant_record.json': torch.tensor(list(text.encode()), dtype=torch.uint8)}


@pytest.mark.parametrize(
    ('state', 'text'),
    [
        (lambda: {'a.weight': torch.ones(2)}, 'of no known format.*`a.weight`'),
        (lambda: {**without('x'), f'{BLOCK}.conv_block.cab.0.weight': torch.ones(2)}, 'Its keys look like HAT'),
        (lambda: without('fc1.weight'), 'not a SwinIR that BasicSR knows'),
        (lambda: without('norm2.weight'), r'norm2\.weight is missing'),
        (lambda: {**without('x'), 'upsample.0.weight': torch.ones(7, 12, 3, 3)}, 'upsample.0.weight.* does not fit'),
        (uncalibrated, 'Not calibrated: 32 quantizers'),
        (lambda: with_record('{"arch": "CompSRTSwinIr", "args": {}}'), 'CompSRTSwinIr.*Did you mean `CompSRTSwinIR`'),
        (lambda: with_record('{"arch": "CompSRTSwinIR", "args": {"depth": 3}, "quant": {}}'), "arguments .* 'depth'"),
        (lambda: with_record('{"arch": "CompSRTSwinIR"}'), 'no arguments'),
        (lambda: with_record('[]'), 'record is not readable'),
        (lambda: with_record('no json'), 'record is not readable'),
    ],
)
def test_faults_are_one_sentence_that_names_the_file(tmp_path, state, text):
    torch.save({'params': state()}, tmp_path / 'net.pth')
    with pytest.raises(CompSRTError, match=text) as error:
        load_network(tmp_path / 'net.pth')
    assert 'net.pth' in str(error.value) and '\n' not in str(error.value)


def test_missing_file_and_device(tmp_path):
    with pytest.raises(CompSRTError, match='does not exist'):
        load_network(tmp_path / 'nothing.pth')
    with pytest.raises(CompSRTError, match='device `nonsense` cannot be used'):
        load_network(save(tmp_path / 'net.pth', tiny_swinir()), 'nonsense')
