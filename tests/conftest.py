"""Fixtures that several test folders share."""

from __future__ import annotations

import atexit
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault('OMP_NUM_THREADS', '1')  # before torch is imported

import cv2
import numpy as np
import pytest
import submitit  # noqa: F401  configures logging when it is imported, which closes the captured streams of other handlers
import yaml
from commands import FORKED, CommandServer, environment
from hypothesis import settings

import compsrt_basicsr
from compsrt_basicsr.utils import before_torch

before_torch.prepare()
compsrt_basicsr.register()  # before any test imports basicsr

# No test reads what a user has downloaded, or asks the network; those of downloads have a server on this machine.
os.environ['COMPSRT_HOME'] = tempfile.mkdtemp(prefix='compsrt_home_')
os.environ['COMPSRT_OFFLINE'] = '1'
os.environ.pop('COMPSRT_ZOO', None)
atexit.register(shutil.rmtree, os.environ['COMPSRT_HOME'], ignore_errors=True)

# A busy machine is no fault, and a test that passed must pass again.
settings.register_profile('compsrt', deadline=None, derandomize=True)
settings.load_profile('compsrt')

ROOT = Path(__file__).resolve().parents[1]
HR_SIZE, SCALE, PICTURES = 64, 2, 6


class LmdbPair(NamedTuple):
    """A pair of LMDBs: `PICTURES` smooth HR pictures of 64x64 pixels and their halves, keys '0' … '5'."""

    hr: Path
    lr: Path


def smooth_pictures() -> list[np.ndarray]:
    """Returns BGR uint8 pictures, each an enlarged grid of noise."""
    noise = np.random.default_rng(0)
    grids = [noise.uniform(0, 255, (6, 6, 3)).astype(np.float32) for _ in range(PICTURES)]
    return [
        np.clip(cv2.resize(grid, (HR_SIZE, HR_SIZE), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
        for grid in grids
    ]


def write_lmdb(folder: Path, pictures: list[np.ndarray]) -> Path:
    """Writes pictures with BasicSR's own LMDB maker."""
    from basicsr.utils.lmdb_util import LmdbMaker

    maker = LmdbMaker(str(folder), map_size=2**24)
    for key, picture in enumerate(pictures):
        maker.put(cv2.imencode('.png', picture)[1].tobytes(), str(key), picture.shape)
    maker.close()
    return folder


@pytest.fixture(scope='session')
def tiny_lmdb(tmp_path_factory: pytest.TempPathFactory) -> LmdbPair:
    """A pair of tiny LMDBs for x2; do not write into it."""
    folder = tmp_path_factory.mktemp('lmdb')
    hr = smooth_pictures()
    lr = [cv2.resize(picture, None, fx=1 / SCALE, fy=1 / SCALE, interpolation=cv2.INTER_AREA) for picture in hr]
    return LmdbPair(write_lmdb(folder / 'hr.lmdb', hr), write_lmdb(folder / 'lr.lmdb', lr))


@pytest.fixture(scope='session')
def command_server() -> Iterator[CommandServer]:
    """A process that runs commands in forks of itself."""
    server = CommandServer()
    yield server
    server.close()


@pytest.fixture(scope='session')
def run_command(command_server: CommandServer) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Returns a function that runs a command: `run_command(args, cwd, **env)`; args[0] 'python' is this Python.

    The commands of the package run in forks, and scripts with `new=False`; all else, and with `new=True` these too, in
    processes that import everything anew.
    """

    def run(
        args: list[Any], cwd: Path, timeout: float = 240, new: bool | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        words = [str(arg) for arg in args]
        if words[:2] == ['python', '-m'] and words[2] in FORKED and not new:
            return command_server.run(words[2], words[3:], cwd, timeout, **env)
        if new is False:
            return command_server.run(words[1], words[2:], cwd, timeout, **env)
        words[0] = sys.executable if words[0] == 'python' else words[0]
        return subprocess.run(words, cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=timeout)

    return run


def dataset_options(pair: LmdbPair, name: str, **changes: Any) -> dict[str, Any]:
    """Returns the options of a data set over the tiny LMDBs."""
    return {
        'name': name,
        'type': 'PairedImageDataset',
        'dataroot_gt': str(pair.hr),
        'dataroot_lq': str(pair.lr),
        'io_backend': {'type': 'lmdb'},
        **changes,
    }


def training_dataset_options(pair: LmdbPair) -> dict[str, Any]:
    """Returns the options of the training set: three batches of two an epoch."""
    return dataset_options(
        pair,
        'Tiny',
        gt_size=32,
        use_hflip=True,
        use_rot=True,
        num_worker_per_gpu=0,
        batch_size_per_gpu=2,
        dataset_enlarge_ratio=1,
        prefetch_mode=None,
    )


@pytest.fixture
def stock_options(tiny_lmdb: LmdbPair) -> dict[str, Any]:
    """The options of a tiny training run with BasicSR's own SwinIR."""
    return copy.deepcopy(
        {
            'name': 'tiny',
            'model_type': 'SwinIRModel',
            'scale': SCALE,
            'num_gpu': 'auto',
            'manual_seed': 7,
            'datasets': {'train': training_dataset_options(tiny_lmdb), 'val': dataset_options(tiny_lmdb, 'TinyVal')},
            'network_g': {
                'type': 'SwinIR',
                'upscale': SCALE,
                'in_chans': 3,
                'img_size': 16,
                'window_size': 8,
                'img_range': 1.0,
                'depths': [2],
                'embed_dim': 8,
                'num_heads': [2],
                'mlp_ratio': 2,
                'upsampler': 'pixelshuffledirect',
                'resi_connection': '1conv',
            },
            'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None},
            'train': {
                'ema_decay': 0.9,
                'optim_g': {'type': 'Adam', 'lr': 1e-3, 'weight_decay': 0, 'betas': [0.9, 0.99]},
                'scheduler': {'type': 'MultiStepLR', 'milestones': [4], 'gamma': 0.5},
                'total_iter': 4,
                'warmup_iter': -1,
                'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
            },
            'val': {
                'val_freq': 4,
                'save_img': False,
                'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 2, 'test_y_channel': True}},
            },
            'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': False},
        }
    )


@pytest.fixture(scope='session')
def write_options() -> Callable[[Path, dict[str, Any]], Path]:
    """Returns a function that writes options as a YAML file and gives its path."""

    def write(path: Path, options: dict[str, Any]) -> Path:
        path.write_text(yaml.safe_dump(options, sort_keys=False))
        return path

    return write


@pytest.fixture(scope='session')
def kernel_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the C++ kernels are compiled once for all tests; without a compiler the test is left out.

    Yields:
        The folder, as `$COMPSRT_HOME`.
    """
    from compsrt_basicsr.kernels import build, loaded

    if build.find_compiler() is None:
        pytest.skip('needs a C++ compiler')
    folder = tmp_path_factory.mktemp('home')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('COMPSRT_HOME', str(folder))
        patch.delenv(build.SWITCH, raising=False)
        forget_kernels()
        assert loaded.kernels() is not None
        yield folder
    forget_kernels()


def forget_kernels() -> None:
    """Makes the next question for the kernels look for them anew."""
    from compsrt_basicsr.integer.cpp_kernels import kernel_is_right
    from compsrt_basicsr.kernels import build, loaded
    from compsrt_basicsr.quant.functional.fused import fused_is_right
    from compsrt_basicsr.quant.functional.fused_attention import attention_is_right
    from compsrt_basicsr.quant.functional.reconstruct import feedback_is_right

    tests = kernel_is_right, fused_is_right, attention_is_right, feedback_is_right
    for cached in (build.compiled, loaded.kernels, *tests):
        cached.cache_clear()


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch):
    """Integer execution in torch alone."""
    from compsrt_basicsr.kernels import build

    monkeypatch.setenv(build.SWITCH, '0')
    forget_kernels()
    yield
    forget_kernels()
