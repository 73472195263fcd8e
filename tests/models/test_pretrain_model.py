"""CompSRTPretrainModel: the training of BasicSR's SwinIRModel, with weight files of any kind and a stop at NaN."""

import copy
import logging

import pytest
import torch
from basicsr.archs.swinir_arch import SwinIR
from basicsr.models import build_model
from safetensors.torch import save_file

from compsrt_basicsr.errors import CompSRTError


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """BasicSR's logger, as a command would have set it up."""
    from basicsr.utils import logger

    monkeypatch.setitem(logger.initialized_logger, 'basicsr', True)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'level', logging.ERROR)


@pytest.fixture
def opt(stock_options, tmp_path):
    """Options as parse_options would leave them, with an average and random depth."""
    stock_options.update(model_type='CompSRTPretrainModel', dist=False, rank=0, world_size=1, num_gpu=0, is_train=True)
    stock_options['path'].update({key: str(tmp_path) for key in ('experiments_root', 'models', 'training_states')})
    stock_options['network_g'].update(depths=[2], drop_path_rate=0.3)
    return stock_options


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return {'lq': torch.rand(2, 3, 16, 16, generator=generator), 'gt': torch.rand(2, 3, 32, 32, generator=generator)}


def trained(opt, model_type, steps=6):
    torch.manual_seed(5)
    model = build_model(copy.deepcopy({**opt, 'model_type': model_type}))
    for iteration in range(1, steps + 1):
        model.update_learning_rate(iteration, warmup_iter=2)
        model.feed_data(batch(iteration))
        model.optimize_parameters(iteration)
        if iteration == 3:
            model.test()  # a validation on the way
    return model


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize('ema_decay', [0, 0.9])
def test_training_is_that_of_basicsr(opt, ema_decay):
    """Weights, average, schedule and log to the last bit, random depth included."""
    opt['train']['ema_decay'] = ema_decay
    mine, theirs = trained(opt, 'CompSRTPretrainModel'), trained(opt, 'SwinIRModel')
    assert same(mine.net_g.state_dict(), theirs.net_g.state_dict())
    assert hasattr(mine, 'net_g_ema') == hasattr(theirs, 'net_g_ema') == (ema_decay > 0)
    if ema_decay:
        assert same(mine.net_g_ema.state_dict(), theirs.net_g_ema.state_dict())
        assert not same(mine.net_g_ema.state_dict(), mine.net_g.state_dict())
    assert mine.get_current_log() == theirs.get_current_log()
    assert mine.get_current_learning_rate() == theirs.get_current_learning_rate()


def test_bfloat16_keeps_weights_in_float32(opt):
    """The loss after some steps is close to that in float32, and not the same."""
    full = trained(opt, 'CompSRTPretrainModel')
    opt['train']['amp'] = 'bf16'
    half = trained(opt, 'CompSRTPretrainModel')
    assert all(value.dtype == torch.float32 for value in half.net_g.parameters())
    losses = [model.get_current_log()['l_pix'] for model in (full, half)]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.02)


def test_reflected_padding_tests_like_basicsr(opt):
    opt['val']['pad'] = 'reflect'
    mine, theirs = trained(opt, 'CompSRTPretrainModel', 1), trained(opt, 'SwinIRModel', 1)
    for model in (mine, theirs):
        model.feed_data({'lq': torch.rand(1, 3, 13, 18, generator=torch.Generator().manual_seed(0))})
        model.test()
    assert torch.equal(mine.output, theirs.output) and mine.output.shape == (1, 3, 26, 36)


def test_nan_stops_before_the_weights_change(opt):
    model = trained(opt, 'CompSRTPretrainModel', 1)
    before = copy.deepcopy(model.net_g.state_dict())
    broken = batch(2)
    broken['lq'][0, 0, 0, 0] = float('nan')
    model.feed_data(broken)
    with pytest.raises(CompSRTError, match=r'iteration 2: NaN or infinity in layer `conv_first`'):
        model.optimize_parameters(2)
    assert same(model.net_g.state_dict(), before)


def test_nan_is_not_saved(opt, tmp_path):
    model = trained(opt, 'CompSRTPretrainModel', 1)
    with torch.no_grad():
        model.net_g.conv_first.bias.fill_(float('nan'))
    with pytest.raises(CompSRTError, match=r'Nothing was saved at iteration 4: `conv_first\.bias`'):
        model.save(0, 4)
    assert not list(tmp_path.glob('*.pth'))


def test_start_from_another_scale(opt, tmp_path):
    """What fits is loaded into network and average; the tail has other channels and stays."""
    arguments = {key: value for key, value in opt['network_g'].items() if key != 'type'}
    other = SwinIR(**{**arguments, 'upscale': 3})
    torch.save({'params_ema': other.state_dict()}, tmp_path / 'x3.pth')
    opt['path'].update(pretrain_network_g=str(tmp_path / 'x3.pth'), param_key_g='params_ema', strict_load_g=False)
    model = build_model(opt)
    for network in (model.net_g, model.net_g_ema):
        assert torch.equal(network.conv_first.weight, other.conv_first.weight)
        assert network.upsample[0].weight.shape != other.upsample[0].weight.shape
    opt['path']['strict_load_g'] = True
    with pytest.raises(CompSRTError, match=r'x3\.pth: .*x3.*x2'):
        build_model({**opt, 'train': None, 'is_train': False})


def test_start_from_safetensors(opt, tmp_path):
    arguments = {key: value for key, value in opt['network_g'].items() if key != 'type'}
    other = SwinIR(**arguments)
    save_file({k: v.contiguous() for k, v in other.state_dict().items()}, tmp_path / 'x2.safetensors')
    opt['path']['pretrain_network_g'] = str(tmp_path / 'x2.safetensors')
    model = build_model(opt)
    assert same(dict(model.net_g.named_parameters()), dict(other.named_parameters()))


def test_several_gpus_need_a_process_each(opt):
    opt['num_gpu'] = 2
    with pytest.raises(CompSRTError, match='torchrun --nproc_per_node=2'):
        build_model(opt)
