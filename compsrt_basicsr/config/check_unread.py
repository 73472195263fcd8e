"""Options that a run would accept and never read.

Each is an error, for it promises an effect that it has not. Only what belongs to another phase, such as the section
`train` in the copy of a training's file that tests, is reported in a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compsrt_basicsr.config.run import NETWORKS
from compsrt_basicsr.config.section import section_of

_DISTILLS, _PRETRAINS = 'CompSRTModel', 'CompSRTPretrainModel'
# Models whose reading is known; others, of other packages, may read anything.
_OF_BASICSR = ('SRModel', 'SwinIRModel')
_OF_DISCRIMINATORS = ('network_d', 'path.pretrain_network_d', 'path.param_key_d', 'path.strict_load_d')
_OF_DISTILLATION = (
    'network_t',
    'path.pretrain_network_t',
    'path.param_key_t',
    'path.strict_load_t',
    'method',
    'calibration',
    'train.trainable',
    'train.weight_lr',
    'train.unquantized_lr',
    'train.feature_opt',
    'train.prune_schedule',
    'train.gate_phase',
    'train.grad_clip_value',
)
_UNREAD = {
    _DISTILLS: (*_OF_DISCRIMINATORS, 'train.perceptual_opt', 'train.fit_tail'),
    _PRETRAINS: (*_OF_DISCRIMINATORS, *_OF_DISTILLATION),
    **dict.fromkeys(_OF_BASICSR, (*_OF_DISCRIMINATORS, 'val.pad', 'train.amp', 'train.fit_tail')),
}
_REMEDIES = {
    'train.perceptual_opt': 'a distillation compares outputs (`train.pixel_opt`) and features (`train.feature_opt`)',
}
# A training names its images by their iteration, and counts codes when it logs.
_OF_TESTS = ('val.suffix', 'val.count_codes')
_OF_TRAININGS = ('train', 'logger', 'calibration', 'network_t', 'path.pretrain_network_t', 'path.param_key_t',
                 'path.strict_load_t', 'path.resume_state', 'path.ignore_resume_networks', 'val.val_freq',
                 'find_unused_parameters', *_OF_DISCRIMINATORS)  # fmt: skip
_OF_TRAINING_SETS = (
    'gt_size', 'use_hflip', 'use_rot', 'use_shuffle', 'num_worker_per_gpu', 'batch_size_per_gpu',
    'dataset_enlarge_ratio',
)  # fmt: skip
_PAIRED = 'PairedImageDataset'
_OF_BACKENDS = {
    'disk': (),
    'lmdb': ('readonly', 'lock', 'readahead'),
    'memcached': ('server_list_cfg', 'client_cfg', 'sys_path'),
}
# Losses of a kind fit one place; those of other packages may fit any.
_KINDS = {
    'train.pixel_opt': ('L1Loss', 'MSELoss', 'CharbonnierLoss', 'PublishedPixelLoss'),
    'train.feature_opt': ('FeatureDistillationLoss', 'PublishedFeatureLoss'),
    'train.perceptual_opt': ('PerceptualLoss',),
}
_OTHER_KINDS = ('WeightedTVLoss', 'GANLoss', 'MultiScaleGANLoss')


def unread_options(opt: Mapping[str, Any], is_train: bool) -> Iterator[str]:
    """Yields a sentence for each option that the run would not read.

    Args:
        opt: the options of a run, under today's names.
        is_train: training or testing.
    """
    for key in section_of(opt, 'datasets'):
        yield from _of_dataset(section_of(opt['datasets'], key), f'datasets.{key}')
    if not is_train:
        return
    model = opt.get('model_type')
    names = _UNREAD.get(model, ()) if isinstance(model, str) else ()
    for name in names:
        if value_at(opt, name) is not None:
            yield f'`{name}` has no effect with `model_type: {model}`: {_REMEDIES.get(name, "leave it out")}.'
    yield from _misplaced_losses(opt)
    yield from _of_resuming(opt)


def idle_options(opt: Mapping[str, Any], is_train: bool) -> list[str]:
    """Returns the options that belong to another phase of the run.

    Args:
        opt: the options of a run, checked.
        is_train: training or testing.
    """
    datasets = section_of(opt, 'datasets')
    sets = [key for key in datasets if str(key).split('_')[0] != 'train']
    idle = [f'datasets.{key}.{name}' for key in sets for name in _OF_TRAINING_SETS]
    idle += _OF_TESTS if is_train else _OF_TRAININGS
    if is_train and not sets:
        idle.append('val')
    if is_train and opt.get('val') is None:
        idle += [f'datasets.{key}' for key in sets]
    return [name for name in idle if value_at(opt, name) not in (None, False)]


def value_at(opt: Mapping[str, Any], path: str) -> Any:
    """Returns the option at a dotted path, None where it is not given."""
    section, _, name = path.rpartition('.')
    owner = opt
    for key in section.split('.') if section else ():
        owner = section_of(owner, key)
    return owner.get(name)


def _of_dataset(section: Mapping[str, Any], where: str) -> Iterator[str]:
    if where != 'datasets.train' and section.get('persistent_workers') is True:
        yield f'`{where}.persistent_workers` works for `datasets.train` only: BasicSR validates without workers.'
    backend, paired = section_of(section, 'io_backend'), section.get('type') == _PAIRED
    kind = backend.get('type')
    if not isinstance(kind, str) or kind not in _OF_BACKENDS:
        return
    others = [name for names in _OF_BACKENDS.values() for name in names if name not in _OF_BACKENDS[kind]]
    for name, value in backend.items():
        if name in ('db_paths', 'client_keys'):
            if paired and value is not None:
                yield f'`{where}.io_backend.{name}` is set by BasicSR: leave it out.'
        elif value is not None and name in others:
            yield f'`{where}.io_backend.{name}` has no effect with `type: {kind}`: leave it out.'
    if paired and kind == 'lmdb':
        for name in ('meta_info_file', 'filename_tmpl'):
            if section.get(name) not in (None, '{}'):
                yield (
                    f'`{where}.{name}` is not read with `io_backend.type: lmdb`, whose own list has all images: leave '
                    'it out, or take folders and `type: disk`.'
                )
    if section.get('num_prefetch_queue') is not None and section.get('prefetch_mode') != 'cpu':
        yield f'`{where}.num_prefetch_queue` needs `prefetch_mode: cpu`: leave it out.'


def _misplaced_losses(opt: Mapping[str, Any]) -> Iterator[str]:
    for place, fitting in _KINDS.items():
        loss = section_of(section_of(opt, 'train'), place.partition('.')[2])
        kind = loss.get('type')
        others = [name for names in _KINDS.values() if names is not fitting for name in names]
        if kind in (*others, *_OTHER_KINDS):
            yield f'`{place}.type`: `{kind}` is no loss of this kind: give one such as {" or ".join(fitting[:2])}.'
        if loss.get('reduction') == 'none':
            yield f'`{place}.reduction`: `none` gives no single number to minimize: give `mean` or `sum`.'


def _of_resuming(opt: Mapping[str, Any]) -> Iterator[str]:
    ignored = section_of(opt, 'path').get('ignore_resume_networks')
    for name in [ignored] if isinstance(ignored, str) else ignored if isinstance(ignored, (list, tuple)) else ():
        if isinstance(name, str) and (name not in NETWORKS or opt.get(name) is None):
            yield f'`path.ignore_resume_networks`: the run has no network `{name}`: leave it out.'
