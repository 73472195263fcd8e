"""Which changed options a resumed run takes, and which it refuses."""

import copy

import pytest
from compsrt_runs import distillation_options, make_teacher
from conftest import ROOT
from test_option_check import DELETE, put

from compsrt_basicsr.config.resume_rules import (
    RULES,
    changed_options,
    check_resumed,
    options_to_save,
    resume_table,
    rule_of,
)
from compsrt_basicsr.config.run import PathOptions, RunOptions
from compsrt_basicsr.config.training import TrainOptions
from compsrt_basicsr.errors import CompSRTError


@pytest.fixture
def run(tiny_lmdb, tmp_path):
    return distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))


def changed(run, changes):
    saved = options_to_save(run)
    now = copy.deepcopy(run)
    for path, value in changes.items():
        put(now, path, value)
    return saved, now


COSINE = {'type': 'CosineAnnealingRestartLR', 'periods': [8]}
SSIM = {'type': 'calculate_ssim', 'crop_border': 2}


@pytest.mark.parametrize(
    ('changes', 'places'),
    [
        ({'train.total_iter': 8, 'train.optim_g.lr': 1e-3}, ['train.optim_g.lr', 'train.total_iter']),
        ({'train.scheduler.milestones': [3, 6]}, ['train.scheduler.milestones']),
        ({'train.scheduler': COSINE}, ['train.scheduler.eta_min', 'train.scheduler.gamma']),
        ({'train.optim_g.betas': [0.5, 0.9]}, ['train.optim_g.betas']),
        ({'val.metrics.ssim': SSIM}, ['val.metrics.ssim.better', 'val.metrics.ssim.crop_border']),
        ({'train.pixel_opt.loss_weight': 2.0, 'train.grad_clip_value': DELETE}, ['train.grad_clip_value']),
        ({'network_g.drop_path_rate': 0.1}, ['network_g.drop_path_rate']),
        ({'network_g.quant.execution': 'fake', 'network_g.ape': False, 'datasets.train.pin_memory': False}, []),
        ({'network_t.ape': False, 'train.optim_g.weight_decay': 0, 'calibration.seed': 0}, []),  # their defaults
        ({'path.pretrain_network_g': 'x.pth', 'calibration.file': 'x.pth'}, []),
        ({'datasets.train.batch_size_per_gpu': 1}, ['datasets.train.batch_size_per_gpu']),
    ],
)
def test_what_is_taken_is_listed(run, changes, places):
    saved, now = changed(run, changes)
    check_resumed(saved, now, 4)
    found = [change.place for change in changed_options(saved, now)]
    assert set(places) <= set(found) and bool(places) == bool(found)


@pytest.mark.parametrize(
    ('place', 'value', 'old'),
    [
        ('train.trainable', 'all', 'quantizers'),
        ('train.optim_g.type', 'SGD', 'Adam'),
        ('train.optim_g.amsgrad', True, '~'),
        ('network_g.embed_dim', 24, '12'),
        ('network_g.quant.weight_bits', 2, '4'),
        ('network_g.quant.learn_bounds', False, 'True'),
        ('calibration.method', 'minmax', 'dobi'),
        ('train.prune_schedule', {'begin': 0, 'end': 2}, '~'),
        ('model_type', 'CompSRTPretrainModel', 'CompSRTModel'),
    ],
)
def test_what_must_stay_is_refused(run, place, value, old):
    saved, now = changed(run, {place: value})
    with pytest.raises(CompSRTError) as caught:
        check_resumed(saved, now, 4)
    assert place in str(caught.value) and old in str(caught.value)


def test_a_training_must_not_end_before_its_state(run):
    saved, now = changed(run, {'train.total_iter': 3})
    with pytest.raises(CompSRTError, match=r'`train\.total_iter` is 3'):
        check_resumed(saved, now, 4)
    with pytest.raises(CompSRTError, match='iteration 4'):
        check_resumed(None, now, 4)
    check_resumed(None, run, 4)  # a state of an earlier version has no options


def test_a_method_counts_by_its_options(run):
    run.update(method='dobi')
    _, now = changed(run, {'method': 'minmax'})
    with pytest.raises(CompSRTError, match=r'`calibration\.method`|`network_g\.quant'):
        saved = options_to_save({**run, 'calibration': {'method': 'dobi'}})
        check_resumed(saved, {**now, 'calibration': {'method': 'minmax'}}, 4)


def test_saved_options_are_plain_and_need_no_paths(run):
    run['path']['pretrain_network_g'] = 'x'
    run['datasets']['train']['phase'] = 'train'
    saved = options_to_save(run)
    assert 'pretrain_network_g' not in saved['path'] and 'phase' not in saved['datasets']['train']
    assert saved['train']['optim_g']['betas'] == [0.9, 0.99]


def test_every_option_has_a_rule():
    """None is decided by falling through the table."""
    places = [name for name in RunOptions.model_fields if name not in ('path', 'train')]
    places += [f'path.{name}' for name in PathOptions.model_fields]
    places += [f'train.{name}' for name in TrainOptions.model_fields]
    assert all(any(place == rule or place.startswith(f'{rule}.') for rule in RULES) for place in places)
    assert rule_of('train.optim_g.lr').kind == 'new' and rule_of('train.optim_g.momentum').kind == 'kept'


def test_the_table_is_in_the_documentation():
    assert resume_table() in (ROOT / 'docs/training.md').read_text(encoding='utf-8')
