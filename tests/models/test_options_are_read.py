"""Each option of a run is read by it, or refused, or reported as one of another phase."""

import argparse
import copy
import sys

import pytest
import torch
from basicsr import train
from compsrt_runs import TINY, distillation_options, make_teacher, pretraining

from compsrt_basicsr.archs.compsrt_net_arch import CompSRTNet
from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.basicsr_compat.parse_options import _drop_blanks, _fill_defaults
from compsrt_basicsr.config import datasets, run, training, validation
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.check import find_errors
from compsrt_basicsr.config.check_unread import idle_options
from compsrt_basicsr.config.methods.expand import expand_run
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.models.student_calibration import calibrate_student

SECTIONS = {
    '': run.RunOptions,
    'path.': run.PathOptions,
    'train.': training.TrainOptions,
    'val.': validation.ValidationOptions,
    'logger.': training.LoggerOptions,
    'datasets.train.': datasets.PairedDataset,
    'datasets.train.io_backend.': datasets.IoBackend,
    'datasets.val.': datasets.PairedDataset,
}
OPTIONS = [prefix + name for prefix, model in SECTIONS.items() for name in model.model_fields]
# A value of each option that is neither its default nor in the way of the others.
VALUES = {
    'network_d': {'type': 'UNetDiscriminatorSN', 'num_in_ch': 3},
    'path.param_key_d': 'params',
    'path.strict_load_d': False,
    'path.param_key_t': 'params',
    'path.strict_load_t': False,
    'path.pretrain_network_d': __file__,
    'path.pretrain_network_t': __file__,
    'network_t': {'type': 'SwinIR', **TINY},
    'path.ignore_resume_networks': ['network_t'],
    'train.perceptual_opt': {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1}},
    'train.weight_lr': 1e-3,
    'train.unquantized_lr': 1e-3,
    'train.trainable': 'all',
    'train.amp': 'bf16',
    'train.fit_tail': 8,
    'train.prune_schedule': {'begin': 0, 'end': 2, 'frequency': 1},
    'train.feature_opt': {'type': 'FeatureDistillationLoss'},
    'train.grad_clip_value': 1.0,
    'train.gate_phase': 0.5,
    'calibration': {'method': 'minmax'},
    'method': 'dobi',
    'val.suffix': 'x',
    'val.count_codes': 'all',
    'datasets.train.io_backend.db_paths': ['x'],
    'datasets.train.io_backend.client_keys': ['x'],
    'datasets.train.io_backend.server_list_cfg': 'x',
    'datasets.train.io_backend.client_cfg': 'x',
    'datasets.train.io_backend.sys_path': 'x',
    'datasets.train.filename_tmpl': '{}x2',
    'datasets.train.meta_info_file': __file__,
    'datasets.train.use_shuffle': False,
    'datasets.train.num_prefetch_queue': 2,
    'datasets.val.filename_tmpl': '{}x2',
    'datasets.val.meta_info_file': __file__,
    'datasets.val.num_prefetch_queue': 2,
    'datasets.val.gt_size': 32,
    'datasets.val.use_hflip': True,
    'datasets.val.use_rot': True,
    'datasets.val.use_shuffle': True,
    'datasets.val.num_worker_per_gpu': 1,
    'datasets.val.batch_size_per_gpu': 1,
    'datasets.val.dataset_enlarge_ratio': 2,
    'datasets.val.persistent_workers': True,
}
# Read under a condition that this run does not meet: by a launcher, on resuming, or beside another option.
CONDITIONAL = {
    'dist_params', 'find_unused_parameters', 'path.param_key_g', 'path.strict_load_g',
}  # fmt: skip


class Recorded(dict):
    """Options that note by their dotted path which of them were asked for, in copies too."""

    def __init__(self, values, log, prefix=''):
        self.log, self.prefix = log, prefix
        for key, value in values.items():
            own = Recorded(value, log, f'{prefix}{key}.') if isinstance(value, dict) else value
            super().__setitem__(key, own)

    def __getitem__(self, key):
        self.log.add(f'{self.prefix}{key}')
        return super().__getitem__(key)

    def __contains__(self, key):
        self.log.add(f'{self.prefix}{key}')
        return super().__contains__(key)

    def get(self, key, default=None):
        self.log.add(f'{self.prefix}{key}')
        return super().get(key, default)

    def pop(self, key, *default):
        self.log.add(f'{self.prefix}{key}')
        return super().pop(key, *default)

    def copy(self):
        return Recorded(dict(self.items()), self.log, self.prefix)

    def __deepcopy__(self, memo):
        return Recorded({key: copy.deepcopy(value) for key, value in self.items()}, self.log, self.prefix)


@pytest.fixture
def options(tiny_lmdb, tmp_path):
    return distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))


@pytest.fixture
def read_by_a_run(monkeypatch, tmp_path):
    """Runs BasicSR's training on options; returns the places that it asked for."""

    def run_it(options):
        from basicsr.utils import logger

        from compsrt_basicsr.basicsr_compat.parse_options import _complete_datasets, _complete_paths

        monkeypatch.setitem(logger.initialized_logger, 'basicsr', True)
        monkeypatch.setattr('compsrt_basicsr.models.resumable.options_to_save', lambda opt: {})
        monkeypatch.setattr('compsrt_basicsr.models.run_options.rename_run', lambda opt: None)  # makes new sections
        expand_run(options)
        _drop_blanks(options)
        _fill_defaults(options, True)
        options.update(dist=False, rank=0, world_size=1, num_gpu=0, is_train=True, auto_resume=False)
        _complete_datasets(options)
        _complete_paths(options, str(tmp_path), True)
        log = set()
        args = argparse.Namespace(opt=str(tmp_path / 'run.yml'))
        (tmp_path / 'run.yml').write_text('')
        recorded = Recorded(options, log)
        monkeypatch.setattr(train, 'parse_options', lambda *_, **__: (recorded, args))
        train.train_pipeline(str(tmp_path))
        return log

    return run_it


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind', ['CompSRTModel', 'CompSRTPretrainModel'])
def test_each_option_is_read_or_refused(options, read_by_a_run, kind):
    if kind == 'CompSRTPretrainModel':
        pretraining(options)
    else:
        options['train'].update(trainable='all', prune_schedule={'begin': 0, 'end': 2, 'frequency': 1})
        options['network_g']['quant']['prune_ratio'] = 0.4
    options['train']['total_iter'] = 2
    options['val']['save_img'] = True
    assert not list(find_errors(options, True))
    read = read_by_a_run(copy.deepcopy(options))
    unread = [name for name in OPTIONS if name not in read and name not in CONDITIONAL]
    assert len(unread) < len(OPTIONS) / 2  # the run was recorded
    passed = []
    for name in unread:
        given, section = copy.deepcopy(options), None
        *sections, last = name.split('.')
        section = given
        for key in sections:
            section = section[key]
        section[last] = VALUES.get(name, section.get(last))
        refused = [error for error in find_errors(given, True) if name in error]
        if not refused and name not in idle_options(given, True):
            passed.append(name)
    assert passed == []


# Each field of `calibration` and `quant` is asked for outside of the option models by one of these.
CALIBRATIONS = [
    {'method': 'percentile', 'precondition': 0.1, 'precondition_steps': 1},
    {'method': 'dobi', 'reconstruct': True, 'least_squares': False, 'candidates': 2},
]
QUANTS = [
    {},
    {'corrections': 1},
    {'prune_ratio': 0.4, 'prune_scope': 'global'},
    {'prune_pattern': '2:4', 'transform': 'random', 'quantize_convs': True, 'softmax': 'deferred'},
]


@pytest.fixture
def asked(monkeypatch):
    """The attributes of option models that code outside of `config` has asked for."""
    found = set()

    def noting(self, name):
        if not sys._getframe(1).f_globals.get('__name__', '').startswith(('compsrt_basicsr.config', 'pydantic')):
            found.add(f'{type(self).__name__}.{name}')
        return object.__getattribute__(self, name)

    for model in (CalibrationConfig, QuantConfig):
        monkeypatch.setattr(model, '__getattribute__', noting, raising=False)
    return found


def test_each_field_of_calibration_and_quant_is_read(options, asked):
    options.update(dist=False, rank=0)
    for phase, dataset in options['datasets'].items():
        dataset.update(phase=phase, scale=2)
    for quant in QUANTS:
        for calibration in CALIBRATIONS if not quant else CALIBRATIONS[:1]:
            torch.manual_seed(0)
            network = CompSRTSwinIR(**TINY, quant=quant)
            options['calibration'] = {'num_patches': 1, **calibration}
            calibrate_student(network, options, torch.device('cpu'), 8, unpruned=False)
            network(torch.rand(1, 3, 16, 16)).sum().backward()
    sizes = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2}
    CompSRTNet({'type': 'EDSR', **sizes}, {'quantize_convs': True})  # some options are for other networks
    asked |= {'QuantConfig.prune_pattern'} if 'QuantConfig.n_of_m' in asked else set()
    asked |= {'QuantConfig.layers'} if 'QuantConfig.at' in asked else set()
    asked |= {'QuantConfig.split'} if 'QuantConfig.parts_of' in asked else set()
    fields = {f'{model.__name__}.{name}' for model in (CalibrationConfig, QuantConfig) for name in model.model_fields}
    assert fields - asked == {'QuantConfig.method'}  # a record of the preset, hidden from the documentation
