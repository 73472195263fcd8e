"""The option files of a run, for `basicsr train` and `basicsr test`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from compsrt_basicsr.basicsr_compat.register import register
from compsrt_basicsr.basicsr_compat.swinir import ARCH_REGISTRY
from compsrt_basicsr.config.check import check_options
from compsrt_basicsr.config.sweep import TRAIN
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.catalog import find
from compsrt_basicsr.study.sweep.data import LmdbPair
from compsrt_basicsr.study.sweep.runs import Run
from compsrt_basicsr.utils.expand_user import expand_user
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

TRAINED, TESTED = 'run', 'test'  # names of training and test below the run's folder
WEIGHTS = f'experiments/{TRAINED}/models/net_g_latest.pth'
MODEL = 'CompSRTModel'
_NO_WORKERS = {'num_worker_per_gpu': 0, 'use_hflip': True, 'use_rot': True}
_WEIGHT_FILES = ('pretrain_network_t', 'pretrain_network_g')


def training_options(run: Run, data: LmdbPair | None) -> dict[str, Any]:
    """Returns the options of `basicsr train`.

    Args:
        run: the run.
        data: the training set; None if the options of the run name one.
    """
    options = {
        'name': TRAINED,
        'model_type': MODEL,
        'num_gpu': 'auto',
        **run.options,
        'path': _absolute(run.options.get('path') or {}, _WEIGHT_FILES),
        'val': None,
        'logger': _logger(run.options.get('train') or {}),
    }
    train = {**_NO_WORKERS, **options['datasets'][TRAIN]}
    own = {'name': TRAIN, **data.options()} if data else _absolute(train, ('dataroot_gt', 'dataroot_lq'))
    options['datasets'] = {TRAIN: {**train, **own}}
    if isinstance(options.get('calibration'), Mapping):
        options['calibration'] = _absolute(options['calibration'], ('file',))
    return options


def test_options(run: Run, tests: Mapping[str, LmdbPair], execution: str | None = None) -> dict[str, Any]:
    """Returns the options of `basicsr test`, for the last network of a training, or for a teacher.

    Args:
        run: the run.
        tests: the test sets by name.
        execution: 'fake' or 'integer'; None for a teacher, which is not quantized.
    """
    options, settings = run.options, run.settings
    if run.trains:
        average = (options.get('train') or {}).get('ema_decay')
        path = {'pretrain_network_g': WEIGHTS, 'param_key_g': 'params_ema' if average else 'params'}
        network = _with_execution(options['network_g'], execution)
    else:
        given = _absolute(options['path'], _WEIGHT_FILES)
        path = {'pretrain_network_g': given['pretrain_network_t'], 'param_key_g': given.get('param_key_t', 'params')}
        network = dict(options['network_t'])
    metric = {'crop_border': run.border, 'test_y_channel': settings['channel'] == 'y'}
    return {
        'name': TESTED,
        'model_type': options.get('model_type', MODEL),
        'method': options.get('method') if run.trains else None,
        'scale': run.scale,
        'num_gpu': 'auto',
        'manual_seed': options.get('manual_seed', 0),
        'datasets': {f'test_{i:03d}': {'name': n, **p.options()} for i, (n, p) in enumerate(tests.items(), 1)},
        'network_g': network,
        'path': {**path, 'strict_load_g': True},
        'val': {
            'save_img': False,
            'suffix': None,
            'pad': settings['padding'],
            'count_codes': settings['count_codes'],
            'metrics': {name: {'type': f'calculate_{name}', **metric} for name in ('psnr', 'ssim')},
        },
    }


def execution_of(run: Run, has_kernels: bool) -> str:
    """Returns how a run is tested: as it asks, or for `auto` on integer codes if the network and this machine can.

    Args:
        run: the run.
        has_kernels: whether the integer kernels are available.

    Raises:
        CompSRTError: if integer execution is asked for, and the network cannot run on integer codes, or the codes of
            all images are to be counted.
    """
    asked, counts_all = run.settings['execution'], run.settings['count_codes'] == 'all'
    if asked == 'fake' or (asked == 'auto' and (counts_all or not has_kernels)):
        return 'fake'
    if counts_all:
        raise CompSRTError(
            f'{run.label}: `eval.execution: integer` does not go with `eval.count_codes: all`, which needs fake '
            'quantization: count the codes of the `first` image, or `skip` them.'
        )
    try:
        _build_once(json.dumps(_with_execution(run.options['network_g'], 'integer'), sort_keys=True))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        if asked == 'auto':  # a network that cannot be built at all is reported by its training
            return 'fake'
        raise CompSRTError(f'{run.label}: `eval.execution`: {error}') from error
    return 'integer'


def _with_execution(network: Mapping[str, Any], execution: str | None) -> dict[str, Any]:
    return {**network, 'quant': {**(network.get('quant') or {}), 'execution': execution}}


@lru_cache
def _build_once(network: str) -> None:
    """Builds the network of options in JSON; many runs of a sweep share one."""
    register()
    options = json.loads(network)
    ARCH_REGISTRY.get(options.pop('type'))(**options)


def check_run(run: Run, has_training_set: bool) -> None:
    """Checks the options of a run before anything is started.

    Args:
        run: the run.
        has_training_set: whether the sweep has one, rather than the options of the run.

    Raises:
        CompSRTError: if options are unknown or out of range. The message names the nearest known options.
    """
    if not run.trains:
        return
    register()  # the check looks names up in the registries
    with tempfile.TemporaryDirectory(suffix='.lmdb') as folder:  # stands for data that are made later
        data = LmdbPair(Path(folder), Path(folder)) if has_training_set else None
        check_options(training_options(run, data), True, run.label, find)
    if run.settings['execution'] == 'integer':
        execution_of(run, has_kernels=True)


def _logger(train: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the section `logger`, with states so frequent that an interrupted run loses little."""
    total = train.get('total_iter')
    often = max(50, int(total) // 20) if isinstance(total, (int, float)) else 50
    return {'print_freq': 25, 'save_checkpoint_freq': often, 'use_tb_logger': False}


def _absolute(section: Mapping[str, Any], files: tuple[str, ...]) -> dict[str, Any]:
    """Returns a section whose files do not depend on the working directory; names such as `zoo://NAME` stay."""
    return {
        key: str(expand_user(value).resolve())
        if key in files and isinstance(value, str) and '://' not in value
        else value
        for key, value in section.items()
    }
