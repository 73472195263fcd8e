"""A run that is resumed with other options: today's schedule and rates, the moments of the state, and new metrics."""

import copy
import logging
import warnings
from types import SimpleNamespace

import pytest
import torch
from basicsr import train
from basicsr.models import build_model, lr_scheduler
from basicsr.models.base_model import BaseModel
from compsrt_runs import distillation_options, make_teacher

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.models import run_state
from compsrt_basicsr.models.resumed_training import resume_optimizer, resume_schedule

MULTISTEP = {'milestones': [3, 7], 'gamma': 0.5}
RESTARTS = {'milestones': [3], 'gamma': 0.5, 'restarts': [0, 5], 'restart_weights': [1, 0.5]}
COSINE = {'periods': [20], 'eta_min': 1e-4}
COSINES = {'periods': [4, 16], 'restart_weights': [1, 0.5]}


def schedule(lr, options):
    """A model of BasicSR's with one optimizer of two groups and one schedule."""
    optimizer = torch.optim.Adam(
        [
            {'params': [torch.nn.Parameter(torch.ones(1))]},
            {'params': [torch.nn.Parameter(torch.ones(2))], 'lr': lr / 10},
        ],
        lr=lr,
    )
    kind = lr_scheduler.MultiStepRestartLR if 'milestones' in options else lr_scheduler.CosineAnnealingRestartLR
    model = BaseModel({'num_gpu': 0, 'is_train': True})
    model.optimizers, model.schedulers = [optimizer], [kind(optimizer, **options)]
    return model


def rates(model, begin, end, warmup):
    found = []
    for iteration in range(begin, end + 1):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # nothing is trained here
            model.update_learning_rate(iteration, warmup)
        found.append([group['lr'] for group in model.optimizers[0].param_groups])
    return found


@pytest.mark.parametrize('warmup', [-1, 4])
@pytest.mark.parametrize('now', [MULTISTEP, RESTARTS, COSINE, COSINES])
@pytest.mark.parametrize('before', [MULTISTEP, COSINE])
@pytest.mark.parametrize('lr', [1e-2, 1e-3])
@pytest.mark.parametrize('at', [1, 6])
def test_a_schedule_goes_on_as_if_it_had_always_been_todays(before, now, lr, warmup, at):
    saved = schedule(1e-2, before)
    done = rates(saved, 1, at, warmup)[-1]
    state = saved.schedulers[0].state_dict()
    model = schedule(lr, now)
    changed = resume_schedule(model.schedulers[0], state, done, warmup, warmup_changed=False)
    assert changed == (before != now or lr != 1e-2)
    assert rates(model, at + 1, 20, warmup) == rates(schedule(lr, now), 1, 20, warmup)[at:]


def test_another_warmup_is_another_schedule():
    saved = schedule(1e-2, MULTISTEP)
    done = rates(saved, 1, 2, -1)[-1]
    model = schedule(1e-2, MULTISTEP)
    assert resume_schedule(model.schedulers[0], saved.schedulers[0].state_dict(), done, 8, warmup_changed=True)
    assert rates(model, 3, 20, 8) == rates(schedule(1e-2, MULTISTEP), 1, 20, 8)[2:]


def stepped(optimizer, parameters):
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


def test_moments_follow_their_parameters_into_other_groups():
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (1, 2, 3)]
    saved = stepped(torch.optim.Adam(parameters, lr=1), parameters)
    groups = [{'params': [parameters[2], parameters[0]]}, {'params': [parameters[1]], 'lr': 0.5}]
    optimizer = torch.optim.Adam(groups, lr=0.1, betas=(0.5, 0.9))
    resume_optimizer(optimizer, saved, parameters)
    assert all(optimizer.state[p]['exp_avg'].shape == p.shape and optimizer.state[p]['step'] == 1 for p in parameters)
    assert [(group['lr'], group['betas']) for group in optimizer.param_groups] == [(0.1, (0.5, 0.9)), (0.5, (0.5, 0.9))]


@pytest.mark.parametrize(
    'make', [lambda p: torch.optim.SGD(p, 1e-2), lambda p: torch.optim.AdamW(p), lambda p: torch.optim.Adam(p[:1])]
)
def test_a_state_of_another_optimizer_is_refused(make):
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (1, 2)]
    saved = stepped(torch.optim.Adam(parameters), parameters)
    optimizer = make(parameters)
    with pytest.raises(CompSRTError, match=r'train\.(optim_g|trainable)'):
        resume_optimizer(optimizer, saved, [p for group in optimizer.param_groups for p in group['params']])


PSNR = {'type': 'calculate_psnr', 'crop_border': 2}
OLD = {'Set5': {'psnr': {'better': 'higher', 'val': 30.0, 'iter': 4}}}


@pytest.mark.parametrize(
    ('metrics', 'kept'),
    [
        ({'psnr': PSNR}, True),
        ({'psnr': PSNR, 'ssim': {'type': 'calculate_ssim', 'crop_border': 2}}, True),
        ({'psnr': {**PSNR, 'crop_border': 4}}, False),
        ({'psnr': {**PSNR, 'better': 'lower'}}, False),
        ({'niqe': {'type': 'calculate_niqe', 'better': 'lower'}}, None),
    ],
)
def test_best_values_of_metrics_that_are_still_the_same(metrics, kept):
    model = SimpleNamespace(opt={'rank': 0, 'val': {'metrics': metrics}})
    run_state.restore(model, {'best_metric_results': OLD, 'options': {'val': {'metrics': {'psnr': PSNR}}}})
    best = model.best_metric_results['Set5']
    assert best.keys() == metrics.keys()
    assert kept is None or (best['psnr'] == OLD['Set5']['psnr']) is kept
    assert all(record['iter'] == -1 and abs(record['val']) == float('inf') for n, record in best.items() if n != 'psnr')


@pytest.fixture
def opt(tiny_lmdb, tmp_path, monkeypatch):
    """Options as parse_options would leave them."""
    from basicsr.utils import logger

    monkeypatch.setitem(logger.initialized_logger, 'basicsr', True)
    options = distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))
    options.update(dist=False, rank=0, world_size=1, num_gpu=0, is_train=True, auto_resume=True)
    options['path'].update(experiments_root=str(tmp_path), models=str(tmp_path), training_states=str(tmp_path))
    options['path']['visualization'] = str(tmp_path)
    for phase, dataset in options['datasets'].items():
        dataset.update(phase=phase, scale=2)
    return options


def trained(opt, iterations):
    """A model after some iterations, and the rates of each."""
    model = build_model(opt)
    found = []
    for iteration in range(1, iterations + 1):
        model.update_learning_rate(iteration, opt['train']['warmup_iter'])
        model.feed_data({'lq': torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(iteration))})
        model.optimize_parameters(iteration)
        found.append([group['lr'] for group in model.optimizer_g.param_groups])
    return model, found


def saved_at_4(opt):
    model, _ = trained(copy.deepcopy(opt), 4)
    model.opt['val'] = None
    model.save(0, 4)
    return model


def resumed(opt):
    state = train.load_resume_state(opt)
    model = build_model(opt)
    model.resume_training(state)
    return model


@pytest.mark.filterwarnings('ignore:Detected call of')
def test_an_extended_run_goes_on_with_todays_options(opt, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('basicsr'), 'propagate', True)
    opt['train'].update(trainable='all', scheduler={'type': 'CosineAnnealingRestartLR', 'periods': [4]})
    before = saved_at_4(opt)
    opt['train'].update(total_iter=8, weight_lr=1e-3, scheduler={'type': 'CosineAnnealingRestartLR', 'periods': [8]})
    opt['train']['optim_g'].update(lr=2e-3, betas=[0.8, 0.99])
    opt['val']['metrics']['ssim'] = {'type': 'calculate_ssim', 'crop_border': 2}
    expected = trained(copy.deepcopy(opt), 5)[1][-1]
    with caplog.at_level(logging.INFO, logger='basicsr'):
        model = resumed(opt)
    for place in ('train.total_iter`: 4 -> 8', 'train.optim_g.lr`: 0.01 -> 0.002', 'train.weight_lr`: ~ -> 0.001'):
        assert any(place in message for message in caplog.messages)
    moments = {name: before.optimizer_g.state[p] for name, p in before.net_g.named_parameters()}
    for name, parameter in model.net_g.named_parameters():
        assert torch.equal(model.optimizer_g.state[parameter]['exp_avg'], moments[name]['exp_avg'])
    model.update_learning_rate(5, -1)
    assert [group['lr'] for group in model.optimizer_g.param_groups] == expected
    assert all(tuple(group['betas']) == (0.8, 0.99) for group in model.optimizer_g.param_groups)


@pytest.mark.parametrize('change', [{'trainable': 'all'}, {'optim_g': {'type': 'SGD', 'lr': 1e-2}}])
def test_what_must_stay_is_refused_before_anything_is_built(opt, change):
    saved_at_4(opt)
    opt['train'].update(change)
    with pytest.raises(CompSRTError, match=r'train\.(trainable|optim_g)'):
        train.load_resume_state(opt)


@pytest.mark.parametrize('change', [{}, {'trainable': 'all'}, {'optim_g': {'type': 'SGD', 'lr': 1e-2}}])
@pytest.mark.filterwarnings('ignore:Detected call of')
def test_a_state_of_an_earlier_version(opt, tmp_path, change):
    """It has no options: the schedule is compared by itself, and what the state cannot be of is still a sentence."""
    saved_at_4(opt)
    state = torch.load(tmp_path / '4.state', weights_only=True)
    del state['compsrt']['options']
    torch.save(state, tmp_path / '4.state')
    opt['train'].update(change, scheduler={'type': 'MultiStepLR', 'milestones': [2], 'gamma': 0.1}, total_iter=8)
    if change:
        with pytest.raises(CompSRTError, match=r'train\.(trainable|optim_g)'):
            resumed(opt)
    else:
        (group,) = resumed(opt).optimizer_g.param_groups
        assert group['lr'] == 1e-2 * 0.1


@pytest.mark.parametrize(('before', 'now'), [(0, 0.9), (0.9, 0)])
def test_an_average_may_begin_or_end(opt, before, now):
    opt['train']['ema_decay'] = before
    saved = saved_at_4(opt)
    opt['train']['ema_decay'] = now
    model = resumed(opt)
    assert hasattr(model, 'net_g_ema') == bool(now)
    if now:
        pairs = zip(model.net_g_ema.state_dict().values(), saved.net_g.state_dict().values())
        assert all(torch.equal(average, trained) for average, trained in pairs)


def test_the_end_of_a_run_is_its_last_iteration(opt, monkeypatch):
    """BasicSR's loop counts on for each epoch that it enters after the end: 40 iterations were stored under 42."""
    model = build_model(opt)
    seen = []
    monkeypatch.setattr(model, 'nondist_validation', lambda loader, iteration, *_: seen.append(iteration))
    for iteration in (2, 4, 5, 6):
        model.validation(SimpleNamespace(dataset=SimpleNamespace(opt={'name': 'x'})), iteration, None)
    assert seen == [2, 4, 4, 4]
