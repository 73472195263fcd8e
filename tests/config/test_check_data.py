"""Contradictions between data sets and networks, options that a run would not read, and names that collide."""

import copy

import pytest
from compsrt_runs import distillation_options, make_teacher, pretraining
from test_option_check import DELETE, put

from compsrt_basicsr.config.check import find_errors
from compsrt_basicsr.config.check_unread import idle_options

VAL_2 = {'datasets.val_2': 'copy of datasets.val'}


@pytest.fixture
def distillation(tiny_lmdb, tmp_path):
    return distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))


def errors_after(options, changes, is_train=True):
    assert not list(find_errors(options, is_train))
    for path, value in changes.items():
        put(options, path, copy.deepcopy(options['datasets']['val'] if value == 'copy of datasets.val' else value))
    return list(find_errors(options, is_train))


PERCEPTUAL = {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1}}
SGD = {'type': 'SGD', 'lr': 1e-2, 'momentum': 0.9}
CONTRADICTIONS = [
    (VAL_2, ['datasets.val_2.name']),
    # an LR patch of 20 pixels and windows of 8
    ({'datasets.train.gt_size': 40}, ['datasets.train.gt_size']),
    ({'datasets.train.gt_size': 33}, ['datasets.train.gt_size']),
    ({'network_g.window_size': 5, 'network_t.window_size': 5}, ['datasets.train.gt_size']),
    ({'network_t.window_size': 6}, ['datasets.train.gt_size']),
    ({'network_g.in_chans': 1, 'network_t.in_chans': 1}, ['datasets.train.color', 'datasets.val.color']),
    ({'datasets.val.color': 'y'}, ['datasets.val.color']),
    ({'network_t.in_chans': 1}, ['datasets.train.color', 'datasets.val.color']),
    ({'network_t.upscale': 4}, ['network_t.upscale']),
    ({'network_g.upscale': DELETE, 'scale': 4, 'network_t.upscale': 4, 'datasets.train.gt_size': 32},
     ['network_g.upscale']),
    ({'network_g.upsampler': ''}, ['network_g.upsampler']),
    ({'network_t.upsampler': DELETE}, ['network_t.upsampler']),
    ({'network_t': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'upscale': 3}}, ['network_t.upscale']),
    ({'network_t': {'type': 'RRDBNet', 'num_in_ch': 1, 'num_out_ch': 1, 'scale': 2}},
     ['datasets.train.color', 'datasets.val.color']),
    ({'datasets.train.mean': [0.5, 0.5, 0.5]}, ['datasets.train.std']),
    ({'datasets.train.mean': [0.5], 'datasets.train.std': [0.5, 0.5]}, ['datasets.train.std']),
    ({'datasets.train.mean': [0.5], 'datasets.train.std': [0]}, ['datasets.train.std']),
]  # fmt: skip
UNREAD = [
    ({'train.perceptual_opt': PERCEPTUAL}, ['train.perceptual_opt']),
    ({'network_d': {'type': 'UNetDiscriminatorSN', 'num_in_ch': 3}}, ['network_d']),
    ({'path.strict_load_d': False}, ['path.strict_load_d']),
    ({'path.ignore_resume_networks': 'network_d'}, ['path.ignore_resume_networks']),
    ({'datasets.train.meta_info_file': __file__}, ['datasets.train.meta_info_file']),
    ({'datasets.train.filename_tmpl': '{}x2'}, ['datasets.train.filename_tmpl']),
    ({'datasets.train.io_backend.sys_path': 'x'}, ['datasets.train.io_backend.sys_path']),
    ({'datasets.train.io_backend.db_paths': ['x']}, ['datasets.train.io_backend.db_paths']),
    ({'datasets.train.num_prefetch_queue': 2}, ['datasets.train.num_prefetch_queue']),
    ({'datasets.train.use_shuffle': False}, ['datasets.train.use_shuffle']),
    ({'train.pixel_opt': {'type': 'FeatureDistillationLoss'}}, ['train.pixel_opt.type']),
    ({'train.pixel_opt': {'type': 'GANLoss', 'gan_type': 'vanilla'}}, ['train.pixel_opt.type']),
    ({'train.feature_opt': {'type': 'L1Loss'}}, ['train.feature_opt.type']),
    ({'train.pixel_opt.reduction': 'none'}, ['train.pixel_opt.reduction']),
    ({'logger.wandb': {'resume_id': 'x'}}, ['logger']),
]


@pytest.mark.parametrize(('changes', 'places'), [*CONTRADICTIONS, *UNREAD])
def test_each_is_an_error_of_a_distillation(distillation, changes, places):
    assert [error.split('`')[1] for error in errors_after(distillation, changes)] == places


@pytest.mark.parametrize(
    'changes',
    [
        {'datasets.train.gt_size': 48},
        {'network_g.in_chans': 1, 'network_t.in_chans': 1, 'datasets.train.color': 'y', 'datasets.val.color': 'y'},
        {'network_g': {'type': 'CompSRTNet', 'base': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'upscale': 2},
                       'quant': {'quantize_convs': True}}, 'datasets.train.gt_size': 48},
        {'network_t': {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'scale': 2}},
        {'network_g.type': 'compsrt_swinir_light_x2_w4a4', 'network_g.upscale': DELETE},
        {'datasets.train.mean': [0.5], 'datasets.train.std': [0.5]},
        {'datasets.val.name': 'Tiny'},  # results of the training set are kept nowhere
        {**VAL_2, 'datasets.val_2.name': 'Other'},
        {'path.strict_load_t': False, 'path.ignore_resume_networks': ['network_t']},
    ],
)  # fmt: skip
def test_what_goes_together_passes(distillation, changes):
    assert errors_after(distillation, changes) == []


@pytest.mark.parametrize(
    ('changes', 'places'),
    [
        ({'path.pretrain_network_t': 'zoo://swinir_light_x2'}, ['path.pretrain_network_t']),
        ({'path.param_key_t': 'params'}, ['path.param_key_t']),
        ({'path.strict_load_t': True}, ['path.strict_load_t']),
        ({'train.trainable': 'all'}, ['train.trainable']),
        ({'calibration': {}}, ['calibration']),
        ({'datasets.train.gt_size': 40}, ['datasets.train.gt_size']),
        ({'train.perceptual_opt': PERCEPTUAL}, []),
        ({'train.optim_g': SGD}, []),
    ],
)
def test_each_is_an_error_of_a_pretraining(distillation, changes, places):
    assert [error.split('`')[1] for error in errors_after(pretraining(distillation), changes)] == places


def test_results_of_two_test_sets_are_kept_apart(distillation):
    tested = {key: distillation[key] for key in ('name', 'model_type', 'scale', 'num_gpu', 'network_g', 'val')}
    tested.update(path={}, datasets={'test_1': distillation['datasets']['val']})
    assert errors_after(tested, {'datasets.test_2': dict(tested['datasets']['test_1'])}, False)[0].startswith(
        '`datasets.test_2.name` is `TinyVal`'
    )


def test_options_of_another_phase_are_listed(distillation):
    assert idle_options(distillation, True) == []
    assert {'train', 'logger', 'network_t', 'val.val_freq'} <= set(idle_options(distillation, False))
    put(distillation, 'datasets.val.gt_size', 32)
    put(distillation, 'val.suffix', 'x')
    assert idle_options(distillation, True) == ['datasets.val.gt_size', 'val.suffix']
    del distillation['val']
    assert idle_options(distillation, True) == ['datasets.val.gt_size', 'datasets.val']
    del distillation['datasets']['val']
    distillation['val'] = {'val_freq': 2}
    assert idle_options(distillation, True) == ['val']
