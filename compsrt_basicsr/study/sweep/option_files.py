"""The option files of a run: what `basicsr train` and `basicsr test` read."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY

from compsrt_basicsr.config.option_check import check_options
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.code_usage import NO_COUNT
from compsrt_basicsr.study.sweep.data import Pair
from compsrt_basicsr.study.sweep.runs import Run
from compsrt_basicsr.study.sweep.spec import TRAIN

TRAINED, TESTED = 'run', 'test'  # names of training and test below the run's folder
WEIGHTS = f'experiments/{TRAINED}/models/net_g_latest.pth'
MODEL = 'CompSRTModel'
_NO_WORKERS = {'num_worker_per_gpu': 0, 'use_hflip': True, 'use_rot': True}
_WEIGHTS = ('pretrain_network_t', 'pretrain_network_g')


def training_options(run: Run, data: Pair | None) -> dict[str, Any]:
    """Options of `basicsr train`.

    Args:
        run: the run.
        data: its training set; None where its options name one.
    """
    options = {
        'name': TRAINED,
        'model_type': MODEL,
        'num_gpu': 'auto',
        **run.options,
        'path': _absolute(run.options.get('path') or {}, _WEIGHTS),
        'val': None,
        'logger': _logger(run.options.get('train') or {}),
    }
    train = {**_NO_WORKERS, **options['datasets'][TRAIN]}
    own = {'name': TRAIN, **data.options()} if data else _absolute(train, ('dataroot_gt', 'dataroot_lq'))
    options['datasets'] = {TRAIN: {**train, **own}}
    if isinstance(options.get('calibration'), Mapping):
        options['calibration'] = _absolute(options['calibration'], ('file',))
    return options


def test_options(run: Run, tests: Mapping[str, Pair], execution: str | None = None) -> dict[str, Any]:
    """Options of `basicsr test`, for the last network of a training, or for a teacher.

    Args:
        run: the run.
        tests: its test sets by name.
        execution: 'fake' or 'integer'; None for a teacher, which has no codes.
    """
    options, settings = run.options, run.settings
    if run.trains:
        average = (options.get('train') or {}).get('ema_decay')
        path = {'pretrain_network_g': WEIGHTS, 'param_key_g': 'params_ema' if average else 'params'}
        network = dict(options['network_g'])
        network['quant'] = {**(network.get('quant') or {}), 'execution': execution}
    else:
        given = _absolute(options['path'], _WEIGHTS)
        path = {'pretrain_network_g': given['pretrain_network_t'], 'param_key_g': given.get('param_key_t', 'params')}
        network = dict(options['network_t'])
    metric = {'crop_border': run.border, 'test_y_channel': settings['channel'] == 'y'}
    return {
        'name': TESTED,
        'model_type': options.get('model_type', MODEL),
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
            'levels': settings['levels'],
            'metrics': {name: {'type': f'calculate_{name}', **metric} for name in ('psnr', 'ssim')},
        },
    }


def execution_of(run: Run, kernels: bool) -> str:
    """How a run is tested: as it asks, or, where it leaves the choice, on codes if it can and the kernels are there.

    Raises:
        CompSRTError: integer execution is asked of a run whose network has none, such as one of convolutions, or one
            with codes that are no b-bit ones; or together with levels counted on all pictures.
    """
    asked, counted = run.settings['execution'], run.settings['levels'] == 'all'
    if asked == 'fake' or (asked == 'auto' and (counted or not kernels)):
        return 'fake'
    if counted:
        raise CompSRTError(f'{run.label}: `eval.execution: integer` {NO_COUNT}')
    network = run.options['network_g']
    network = {**network, 'quant': {**(network.get('quant') or {}), 'execution': 'integer'}}
    try:
        _build_once(json.dumps(network, sort_keys=True))
    except Exception as error:
        if asked == 'auto':  # a network that cannot be built at all is the training's fault to tell
            return 'fake'
        raise CompSRTError(f'{run.label}: `eval.execution`: {error}') from error
    return 'integer'


@lru_cache
def _build_once(network: str) -> None:
    """Builds the network of options in JSON, which tells whether it can; many runs of a grid share one."""
    options = json.loads(network)
    ARCH_REGISTRY.get(options.pop('type'))(**options)


def check_run(run: Run, own_data: bool) -> None:
    """Holds the options of a run against BasicSR's and ours before anything is started.

    Raises:
        CompSRTError: unknown options, with the nearest names, or values out of range.
    """
    if not run.trains:
        return
    with _empty_lmdb() as folder:
        check_options(training_options(run, Pair(folder, folder) if own_data else None), True, source=run.label)
    if run.settings['execution'] == 'integer':
        execution_of(run, kernels=True)


@contextmanager
def _empty_lmdb() -> Iterator[Path]:
    """Stands for data that are made later."""
    with tempfile.TemporaryDirectory(suffix='.lmdb') as folder:
        yield Path(folder)


def _logger(train: Mapping[str, Any]) -> dict[str, Any]:
    """A saved state often enough that a run which is cut off loses little."""
    total = train.get('total_iter')
    often = max(50, int(total) // 20) if isinstance(total, (int, float)) else 50
    return {'print_freq': 25, 'save_checkpoint_freq': often, 'use_tb_logger': False}


def _absolute(section: Mapping[str, Any], files: tuple[str, ...]) -> dict[str, Any]:
    """A section whose files do not depend on the working directory; `zoo://` names stay."""
    return {
        key: str(Path(value).expanduser().resolve())
        if key in files and isinstance(value, str) and '://' not in value
        else value
        for key, value in section.items()
    }
