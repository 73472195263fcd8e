"""The steps of BasicSR's pipelines: its own models with bad checkpoints, options and images end in a sentence."""

import copy
import pickle

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs.edsr_arch import EDSR
from basicsr.archs.swinir_arch import SwinIR
from basicsr.data import build_dataset
from basicsr.test import build_model
from torch.utils.data import DataLoader

from compsrt_basicsr.errors import CompSRTError


@pytest.fixture
def options(stock_options, tmp_path):
    """The options with which BasicSR's own SwinIRModel is tested."""
    opt = copy.deepcopy(stock_options)
    opt.update(dist=False, rank=0, world_size=1, num_gpu=0, is_train=False)
    opt['path'].update(visualization=str(tmp_path / 'images'))
    opt['val']['suffix'] = None
    return opt


def weights(opt, **changes):
    arguments = {**opt['network_g'], **changes}
    arguments.pop('type')
    return SwinIR(**arguments).state_dict()


class Payload:
    def __reduce__(self):
        return print, ('executed',)


def edsr():
    return EDSR(3, 3, num_feat=8, num_block=1, upscale=2).state_dict()


CHECKPOINTS = {  # what is saved, the key, and words of the sentence
    'a list': (lambda opt: [1, 2], 'params', ['list']),
    'a tensor': (lambda opt: torch.ones(2), 'params', ['Tensor']),
    'another entry': (lambda opt: {'generator': weights(opt)}, 'params', ['`params`', 'set it to `generator`']),
    'no entry': (lambda opt: weights(opt), 'params', ['`params`', '`~`']),
    'an entry that is none': (lambda opt: {'params': 5}, 'params', ['`params`', 'int']),
    'plain values': (lambda opt: {'params': {'a': 1.5}}, 'params', ['float', '`a`']),
    'a whole checkpoint': (lambda opt: {'params': weights(opt)}, None, ['OrderedDict', '`params`']),
    'a training state': (lambda opt: {'epoch': 1, 'optimizers': [], 'schedulers': []}, 'params', ['training state']),
    'another architecture': (lambda opt: {'params': edsr()}, 'params', ['EDSR', 'SwinIR', 'missing']),
    'another width': (lambda opt: {'params': weights(opt, embed_dim=12)}, 'params', ['`conv_first.weight`', '(12, 3']),
    'another depth': (lambda opt: {'params': weights(opt, depths=[3])}, 'params', ['blocks.2', 'arguments']),
    'another image size': (lambda opt: {'params': weights(opt, img_size=32)}, 'params', ['attn_mask', '`img_size`']),
    'another scale': (lambda opt: {'params': weights(opt, upscale=4)}, 'params', ['`upsample.0.weight`', '`scale`']),
    'compiled': (
        lambda opt: {'params': {f'_orig_mod.{k}': v for k, v in weights(opt).items()}},
        'params',
        ['`_orig_mod.`', 'SwinIR'],
    ),
    'a discriminator': (lambda opt: {'params': {'conv0.weight': torch.ones(1)}}, 'params', ['a discriminator']),
}


@pytest.mark.parametrize('case', CHECKPOINTS)
def test_checkpoints_that_do_not_fit(options, tmp_path, case):
    content, key, words = CHECKPOINTS[case]
    torch.save(content(options), tmp_path / 'net.pth')
    text = refused(options, tmp_path / 'net.pth', key)
    assert all(word in text for word in words), text


@pytest.mark.parametrize('content', [b'', b'text', b'PK\x03\x04', pickle.dumps({'params': 1}), pickle.dumps(Payload())])
def test_files_that_are_no_checkpoints(options, tmp_path, capsys, content):
    (tmp_path / 'net.pth').write_bytes(content)
    refused(options, tmp_path / 'net.pth')
    assert 'executed' not in capsys.readouterr().out


def test_truncated_missing_and_folders(options, tmp_path):
    file = tmp_path / 'net.pth'
    torch.save({'params': weights(options)}, file)
    for size in (100, 5000):
        file.write_bytes(file.read_bytes()[:size])
        assert 'truncated' in refused(options, file)
    file.unlink()
    assert 'does not exist' in refused(options, file)
    file.mkdir()
    assert 'directory' in refused(options, file)
    assert 'CompSRTPretrainModel' in refused(options, 'zoo://swinir_light_x2_house')


def refused(options, path, key='params'):
    """The sentence with which BasicSR's SwinIRModel refuses weights."""
    options['path'].update(pretrain_network_g=str(path), param_key_g=key)
    with pytest.raises(CompSRTError) as caught:
        build_model(options)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('model', ['SwinIRModel', 'CompSRTPretrainModel'])
def test_a_loose_load_of_nothing(options, tmp_path, model):
    """BasicSR would test a network of random weights."""
    options['model_type'], options['path']['strict_load_g'] = model, False
    torch.save({'params': {'head.0.weight': torch.ones(1)}}, tmp_path / 'net.pth')
    assert 'EDSR' in refused(options, tmp_path / 'net.pth')
    kept = {name: value for name, value in weights(options).items() if 'upsample' not in name}
    torch.save({'params': kept}, tmp_path / 'net.pth')
    options['path']['pretrain_network_g'] = str(tmp_path / 'net.pth')
    assert torch.equal(build_model(options).net_g.conv_first.weight, kept['conv_first.weight'])


def test_our_own_model_says_what_does_not_fit(options, tmp_path):
    """Where torch's message is a list of lines."""
    options['model_type'] = 'CompSRTPretrainModel'
    torch.save({'params': edsr()}, tmp_path / 'net.pth')
    text = refused(options, tmp_path / 'net.pth')
    assert 'EDSR' in text and 'embed_dim' not in text and '\n' not in text
    torch.save({'params': weights(options, embed_dim=12)}, tmp_path / 'net.pth')
    assert 'embed_dim' in refused(options, tmp_path / 'net.pth')


def test_sound_weights_load_as_they_did(options, tmp_path):
    expected = weights(options)
    torch.save({'params': {f'module.{name}': value for name, value in expected.items()}}, tmp_path / 'net.pth')
    options['path'].update(pretrain_network_g=str(tmp_path / 'net.pth'), param_key_g='params_ema')
    loaded = build_model(options).net_g.state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_an_error_of_the_network_itself_keeps_its_traceback(options, tmp_path, monkeypatch):
    torch.save({'params': weights(options)}, tmp_path / 'net.pth')
    options['path']['pretrain_network_g'] = str(tmp_path / 'net.pth')
    monkeypatch.setattr(SwinIR, 'load_state_dict', lambda *_, **__: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        build_model(options)


OPTIONS = {
    'architecture': (lambda o: o['network_g'].update(type='SwinIRR'), ['`SwinIRR`', 'Did you mean `SwinIR`']),
    'argument': (lambda o: o.update(network_g={'type': 'EDSR', 'num_in': 3}), ['`EDSR`', '`num_in`']),
    'lacking': (lambda o: o.update(network_g={'type': 'EDSR'}), ['`EDSR`', '`num_in_ch`', '`num_out_ch`']),
    'model': (lambda o: o.update(model_type='SwinModel'), ['`SwinModel`', 'model']),
    'network': (lambda o: o.pop('network_g'), ['`network_g`']),
    'loss': (lambda o: o['train']['pixel_opt'].update(type='L3Loss'), ['`L3Loss`', 'loss']),
    'no loss': (lambda o: o['train'].pop('pixel_opt'), ['losses are None']),
    'reduction': (lambda o: o['train']['pixel_opt'].update(reduction='meen'), ['meen']),
    'optimizer': (lambda o: o['train'].pop('optim_g'), ['`optim_g`']),
    'scheduler': (lambda o: o['train']['scheduler'].update(milestone=[1]), ['`MultiStepRestartLR`', '`milestone`']),
    'scheduler type': (lambda o: o['train']['scheduler'].update(type='StepLR'), ['StepLR']),
}


@pytest.mark.parametrize('case', OPTIONS)
def test_options_of_basicsrs_own_models(options, case):
    change, words = OPTIONS[case]
    options['is_train'] = True
    change(options)
    with pytest.raises(CompSRTError) as caught:
        build_model(options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def loader(options, **changes):
    return DataLoader(build_dataset({**options['datasets']['val'], 'phase': 'val', 'scale': 2, **changes}))


def test_result_of_another_scale(options):
    """The network enlarges four times where the options and images say two."""
    options['network_g']['upscale'] = 4
    model = build_model(options)
    with pytest.raises(CompSRTError, match=r'`TinyVal`.*`0`.*upscale'):
        model.validation(loader(options), 'now', None)


def test_an_image_that_cannot_be_padded_by_reflection(options, tmp_path):
    for side, size in (('gt', 6), ('lq', 3)):
        (tmp_path / side).mkdir()
        cv2.imwrite(str(tmp_path / side / 'tiny.png'), np.zeros((size, size, 3), np.uint8))
    folders = {'dataroot_gt': str(tmp_path / 'gt'), 'dataroot_lq': str(tmp_path / 'lq'), 'io_backend': {'type': 'disk'}}
    model = build_model(options)
    with pytest.raises(CompSRTError, match=r'`TinyVal`.*tiny\.png.*CompSRTPretrainModel'):
        model.validation(loader(options, **folders), 'now', None)


@pytest.mark.parametrize('changes', [{'num_heads': [3]}, {'in_chans': 1}])
def test_networks_that_do_not_fit_their_input(options, changes):
    options['network_g'].update(changes)
    model = build_model(options)
    with pytest.raises(CompSRTError, match=r'SwinIR.*num_heads'):
        model.validation(loader(options), 'now', None)


def test_small_images_are_refused_before_any_is_measured(options, tmp_path, monkeypatch):
    for side, sizes in (('gt', (64, 16)), ('lq', (32, 8))):
        (tmp_path / side).mkdir()
        for name, size in zip('ab', sizes):
            image = np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / side / f'{name}.png'), image)
    folders = {'dataroot_gt': str(tmp_path / 'gt'), 'dataroot_lq': str(tmp_path / 'lq'), 'io_backend': {'type': 'disk'}}
    options['val']['metrics']['ssim'] = {'type': 'calculate_ssim', 'crop_border': 3}
    model = build_model(options)
    monkeypatch.setattr(model, 'test', None)
    with pytest.raises(CompSRTError, match=r'`TinyVal`.*`b\.png`.*16x16.*`val\.metrics\.ssim`'):
        model.validation(loader(options, **folders), 'now', None)


def test_an_image_that_cannot_be_written_is_named(options, tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images/TinyVal').write_bytes(b'a file where the folder should be')
    model = build_model(options)
    with pytest.raises(CompSRTError, match='TinyVal'):
        model.validation(loader(options), 'now', None, True)
