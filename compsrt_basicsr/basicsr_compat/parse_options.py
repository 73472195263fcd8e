"""`parse_options`: BasicSR's flags and result, with every error reported before anything starts."""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import MutableMapping
from os import path as osp
from typing import Any

import torch

from compsrt_basicsr.basicsr_compat.command_line import flag_parser
from compsrt_basicsr.basicsr_compat.register import register
from compsrt_basicsr.config.base import Section
from compsrt_basicsr.config.basicsr_runs import require_loggers, require_options
from compsrt_basicsr.config.check import check_options
from compsrt_basicsr.config.check_files import without_slash
from compsrt_basicsr.config.check_unread import idle_options
from compsrt_basicsr.config.datasets import PairedDataset
from compsrt_basicsr.config.force_options import apply_forced
from compsrt_basicsr.config.is_compsrt_run import is_ours
from compsrt_basicsr.config.methods.expand import expand_run, place_method
from compsrt_basicsr.config.option_file import read_option_file
from compsrt_basicsr.config.renames import rename_run
from compsrt_basicsr.config.run import PathOptions, RunOptions
from compsrt_basicsr.config.training import LoggerOptions, TrainOptions
from compsrt_basicsr.config.validation import ValidationOptions
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.log import logger

# A run of ours without `manual_seed` takes this one: a drawn seed could not be drawn again on resuming.
DEFAULT_SEED = 0


def parse_options(root_path: str, is_train: bool = True) -> tuple[MutableMapping[str, Any], argparse.Namespace]:
    """Reads the command line and the option file it names.

    Strict checking applies to runs of this package only (`is_ours`); others need what BasicSR cannot do without.

    Args:
        root_path: Folder that gets experiments/, tb_logger/ and results/.
        is_train: Training or testing.

    Returns:
        The options and the parsed command line.

    Raises:
        CompSRTError: The option file cannot be read, or the options have errors.
    """
    from basicsr.utils import options as host_options
    from basicsr.utils import set_random_seed
    from basicsr.utils.dist_util import get_dist_info

    register()
    args = flag_parser().parse_args()
    opt, args.opt = read_option_file(args.opt)
    if is_ours(opt):
        rename_run(opt, warn=True)
    apply_forced(opt, args.force_yml or ())
    if is_ours(opt):
        _prepare(opt, is_train, str(args.opt))
    else:
        require_options(opt, is_train, str(args.opt))
    _fill_defaults(opt, is_train)
    if is_train:
        require_loggers(opt['name'], opt['logger'])
    _settle_devices(opt)

    opt['dist'] = args.launcher != 'none'
    if opt['dist']:
        dist_params = (opt.get('dist_params') or {}) if args.launcher == 'slurm' else {}
        host_options.init_dist(args.launcher, **dist_params)
    opt['rank'], opt['world_size'] = get_dist_info()

    if opt.get('manual_seed') is None:
        opt['manual_seed'] = random.randint(1, 10000)
    set_random_seed(opt['manual_seed'] + opt['rank'])

    opt['auto_resume'] = args.auto_resume
    opt['is_train'] = is_train
    if args.debug and not opt['name'].startswith('debug'):
        opt['name'] = 'debug_' + opt['name']
    _complete_datasets(opt)
    _complete_paths(opt, root_path, is_train)
    if is_train and 'debug' in opt['name']:
        _shorten_for_debug(opt)
    return opt, args


def _prepare(opt: MutableMapping[str, Any], is_train: bool, source: str) -> None:
    """Completes and checks the options of a run of this package, in place.

    Raises:
        CompSRTError: The options have errors; the message lists them all.
    """
    from compsrt_basicsr.hub.catalog import find

    rename_run(opt, warn=True)  # what --force_yml has written as a whole section
    if is_train:
        expand_run(opt)
    else:
        place_method(opt)
    check_options(opt, is_train, source, find)
    if idle := idle_options(opt, is_train):
        phase = 'training' if is_train else 'test'
        logger.warning(f'Without effect in this {phase}: {", ".join(f"`{name}`" for name in idle)}.')
    _drop_blanks(opt)
    if opt.get('manual_seed') is None:
        opt['manual_seed'] = DEFAULT_SEED


def _drop_blanks(opt: MutableMapping[str, Any]) -> None:
    """Removes options that `~` says are not given: BasicSR would take it for a value."""
    sections: list[tuple[type[Section], Any]] = [
        (RunOptions, opt),
        (PathOptions, opt['path']),
        (TrainOptions, opt.get('train')),
        (ValidationOptions, opt.get('val')),
        (LoggerOptions, opt.get('logger')),
        *((PairedDataset, dataset) for dataset in opt['datasets'].values()),
    ]
    for model, section in sections:
        for key in [key for key, value in (section or {}).items() if value is None and model.is_blank(key)]:
            del section[key]


def _fill_defaults(opt: MutableMapping[str, Any], is_train: bool) -> None:
    """Sets what BasicSR reads without asking whether it is there."""
    if not is_train and opt.get('val') is None:
        opt['val'] = {}
    if is_train:
        opt['logger'].setdefault('use_tb_logger', False)
    if opt.get('val') is not None:
        opt['val'].setdefault('save_img', False)
        opt['val'].setdefault('suffix', None)


def _settle_devices(opt: MutableMapping[str, Any]) -> None:
    """Replaces `num_gpu: auto` and refuses GPUs that are not there."""
    if opt['num_gpu'] == 'auto':
        opt['num_gpu'] = torch.cuda.device_count()
    if opt['num_gpu'] and not torch.cuda.is_available():
        raise CompSRTError(
            f'`num_gpu` is {opt["num_gpu"]} but PyTorch finds no CUDA device: set `num_gpu: auto` or `num_gpu: 0`.'
        )


def _complete_datasets(opt: MutableMapping[str, Any]) -> None:
    for key, dataset in opt['datasets'].items():
        dataset['phase'] = key.split('_')[0]
        if 'scale' in opt:
            dataset['scale'] = opt['scale']
        for root in ('dataroot_gt', 'dataroot_lq'):
            if dataset.get(root) is not None:
                dataset[root] = without_slash(osp.expanduser(dataset[root]))


def _complete_paths(opt: MutableMapping[str, Any], root_path: str, is_train: bool) -> None:
    path = opt['path']
    for key, value in path.items():
        if value is not None and ('resume_state' in key or 'pretrain_network' in key):
            path[key] = osp.expanduser(value)
    root = osp.join(root_path, 'experiments' if is_train else 'results', opt['name'])
    if is_train:
        path['experiments_root'] = root
        path['models'] = osp.join(root, 'models')
        path['training_states'] = osp.join(root, 'training_states')
    else:
        path['results_root'] = root
    path['log'] = root
    path['visualization'] = os.path.join(root, 'visualization')


def _shorten_for_debug(opt: MutableMapping[str, Any]) -> None:
    if opt.get('val') is not None:
        opt['val']['val_freq'] = 8
    opt['logger']['print_freq'] = 1
    opt['logger']['save_checkpoint_freq'] = 8
