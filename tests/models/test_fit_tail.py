"""The tail of a SwinIR, fitted to the ground truth in closed form."""

import copy
import logging

import pytest
import torch
from basicsr.archs.swinir_arch import SwinIR
from basicsr.models import build_model

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.models.fit_tail import fit_tail

CPU = torch.device('cpu')


@pytest.fixture
def swinir(stock_options):
    torch.manual_seed(0)
    return SwinIR(**{key: value for key, value in stock_options['network_g'].items() if key != 'type'})


@pytest.fixture
def opt(stock_options, tmp_path, monkeypatch):
    """A x2 training that starts from a x3 network."""
    from basicsr.utils import logger

    monkeypatch.setitem(logger.initialized_logger, 'basicsr', True)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'level', logging.ERROR)
    stock_options.update(model_type='CompSRTPretrainModel', dist=False, rank=0, world_size=1, num_gpu=0, is_train=True)
    stock_options['datasets']['train'].update(phase='train', scale=2)
    arguments = {key: value for key, value in stock_options['network_g'].items() if key != 'type'}
    torch.manual_seed(1)
    torch.save({'params': SwinIR(**{**arguments, 'upscale': 3}).state_dict()}, tmp_path / 'x3.pth')
    stock_options['path'].update({key: str(tmp_path) for key in ('experiments_root', 'models', 'training_states')})
    stock_options['path'].update(pretrain_network_g=str(tmp_path / 'x3.pth'), strict_load_g=False)
    stock_options['train']['fit_tail'] = 8
    return stock_options


def pairs_of(network, count=4):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        lq = torch.rand(3, 16, 16, generator=generator)
        with torch.no_grad():
            yield {'lq': lq, 'gt': network(lq[None])[0]}


def test_the_tail_that_made_the_ground_truth_is_found(swinir):
    other = copy.deepcopy(swinir).train()
    torch.nn.init.normal_(other.upsample[0].weight)
    torch.nn.init.normal_(other.upsample[0].bias)
    body = {key: value.clone() for key, value in other.state_dict().items() if not key.startswith('upsample')}
    fit_tail(other, pairs_of(swinir.eval()), CPU)
    for name in ('weight', 'bias'):
        torch.testing.assert_close(getattr(other.upsample[0], name), getattr(swinir.upsample[0], name),
                                   rtol=0, atol=1e-4)  # fmt: skip
    assert other.training and all(torch.equal(other.state_dict()[key], value) for key, value in body.items())


def test_no_other_tail_has_less_error(swinir):
    """With a ground truth that no tail gives, the derivative of the squared error is zero."""
    found = [{'lq': pair['lq'], 'gt': torch.rand(3, 32, 32)} for pair in pairs_of(swinir.eval())]
    fit_tail(swinir, found, CPU)
    error = sum((swinir(pair['lq'][None])[0] - pair['gt']).square().sum() for pair in found)
    slopes = torch.autograd.grad(error, [swinir.upsample[0].weight, swinir.upsample[0].bias])
    assert all(slope.abs().max() < 1e-2 for slope in slopes)


def test_a_training_starts_with_it_and_so_does_its_average(opt):
    model = build_model(opt)
    assert torch.equal(model.net_g.upsample[0].weight, model.net_g_ema.upsample[0].weight)
    left_out = build_model({**opt, 'train': {**opt['train'], 'fit_tail': None}})
    errors = []
    for each in (model, left_out):
        each.feed_data(next(iter(torch.utils.data.DataLoader(_pairs(opt), 4))))
        each.test()
        errors.append((each.output - each.gt).square().mean())
    assert errors[0] < errors[1] / 4


def test_a_resumed_run_keeps_its_tail(opt, tmp_path):
    trained = build_model(opt).net_g
    torch.save({'params': trained.state_dict()}, tmp_path / 'net_g_2.pth')
    opt['path'].update(pretrain_network_g=str(tmp_path / 'net_g_2.pth'), resume_state=str(tmp_path / '2.state'))
    opt['manual_seed'] = 99  # would fit to other patches
    assert torch.equal(build_model(opt).net_g.upsample[0].weight, trained.upsample[0].weight)


def test_another_network_is_refused(opt):
    opt['network_g']['upsampler'] = 'pixelshuffle'
    with pytest.raises(CompSRTError, match=r'`train\.fit_tail` fits a SwinIR with `upsampler: pixelshuffledirect`'):
        build_model(opt)


def _pairs(opt):
    from basicsr.data import build_dataset

    return build_dataset(copy.deepcopy(opt['datasets']['train']))
