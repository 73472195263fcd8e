"""What BasicSR cannot do without, checked for runs of its own models too."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from os import path as osp
from typing import Any

from compsrt_basicsr.errors import CompSRTError, shown

_OF_RUN = ('name', 'model_type', 'num_gpu', 'datasets', 'path')
_OF_TRAINING = ('train', 'logger')
_OF_LOGGER = ('print_freq', 'save_checkpoint_freq')
_OF_DATASET = ('name', 'type')
_OF_LOADER = ('batch_size_per_gpu', 'num_worker_per_gpu')
_SECTIONS = ('datasets', 'path', 'train', 'logger')


def require_options(opt: Mapping[str, Any], is_train: bool, source: str) -> None:
    """Checks that a run of BasicSR's own models has what its pipelines read without asking; all else is theirs.

    Args:
        opt: The options, as read.
        is_train: Training or testing.
        source: The option file, for the message.

    Raises:
        CompSRTError: Options are missing; the message lists them all.
    """
    errors = list(_gaps(opt, is_train))
    if errors:
        raise CompSRTError(f'The options in {osp.basename(source)} are incomplete: {" ".join(errors)}')


def require_loggers(name: str, logger: Mapping[str, Any]) -> None:
    """Checks that the packages which the section `logger` asks for are installed, before a folder is made.

    Args:
        name: Name of the run; BasicSR logs nothing of a run with `debug` in it.
        logger: The section.

    Raises:
        CompSRTError: A package is not installed.
    """
    if 'debug' in name:
        return
    if logger.get('use_tb_logger') and not _is_installed('tensorboard'):
        raise CompSRTError(
            '`logger.use_tb_logger` needs the package tensorboard: `python -m pip install tensorboard`, or set it to '
            'false.'
        )
    project = (logger.get('wandb') or {}).get('project')
    if project is None:
        return
    if not logger.get('use_tb_logger'):
        raise CompSRTError('`logger.wandb.project` needs `logger.use_tb_logger: true`: set both or none.')
    if not _is_installed('wandb'):
        raise CompSRTError(
            '`logger.wandb.project` needs the package wandb: `python -m pip install wandb` and `wandb login`, or set '
            '`logger.wandb.project` to `~`.'
        )


def _gaps(opt: Mapping[str, Any], is_train: bool) -> Iterator[str]:
    """Yields a sentence for each option that is missing, or is no section where there must be one."""
    yield from (f'`{key}` is missing.' for key in _OF_RUN if opt.get(key) is None)
    if is_train:
        yield from (f'`{key}` is missing.' for key in _OF_TRAINING if opt.get(key) is None)
    for key in _SECTIONS:
        if opt.get(key) is not None and not isinstance(opt[key], Mapping):
            yield f'`{key}` must be a section of options, got {shown(opt[key])}.'
    if not isinstance(opt.get('name', ''), str):
        yield f'`name` must be text, got {shown(opt["name"])}.'
    if isinstance(opt.get('val'), Mapping) and is_train and opt['val'].get('val_freq') is None:
        yield '`val.val_freq` is missing.'
    if is_train and isinstance(opt.get('train'), Mapping) and opt['train'].get('total_iter') is None:
        yield '`train.total_iter` is missing.'
    if is_train and isinstance(opt.get('logger'), Mapping):
        yield from (f'`logger.{key}` is missing.' for key in _OF_LOGGER if opt['logger'].get(key) is None)
    if isinstance(opt.get('datasets'), Mapping):
        yield from _dataset_gaps(opt['datasets'], is_train)


def _dataset_gaps(datasets: Mapping[str, Any], is_train: bool) -> Iterator[str]:
    if is_train and 'train' not in datasets:
        yield '`datasets.train` is missing.'
    elif not datasets:
        yield '`datasets` is empty: add a section `test_1`.'
    for key, section in datasets.items():
        if not isinstance(section, Mapping):
            yield f'`datasets.{key}` must be a section of options, got {shown(section)}.'
            continue
        wanted = (*_OF_DATASET, *(_OF_LOADER if str(key).split('_')[0] == 'train' else ()))
        yield from (f'`datasets.{key}.{name}` is missing.' for name in wanted if section.get(name) is None)


def _is_installed(package: str) -> bool:
    """Tells whether a package can be imported; a folder of its name, as wandb leaves behind, is no package."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None
