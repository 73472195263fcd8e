"""The demo's steps: data preparation, training and tests, each with a shipped option file and a few forced options."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from demo_commands import Commands
from force_yml import force

from compsrt_basicsr.config.option_file import read_option_file

OPTIONS = Path(__file__).resolve().parents[1] / 'options'
RECIPES = {'strict': OPTIONS, 'paper': OPTIONS / 'paper'}
ROW = 'compsrt_x2_w4a4.yml'
TEACHER = 'zoo://swinir_light_x2_house'
SCALE, BITS = 2, 4
TEST_SET = 'held_out'


@dataclass(frozen=True)
class Budget:
    """The amount of work of the demo.

    Attributes:
        iterations, batch: iterations and batch size of each distillation.
        lr_patch: side of the LR patches in training and calibration in pixels.
        calibration_patches: number of patches for calibration.
        test_side: side of the HR test images in pixels.
    """

    iterations: int
    batch: int
    lr_patch: int
    calibration_patches: int
    test_side: int


@dataclass(frozen=True)
class Result:
    """The test result of one network.

    Attributes:
        recipe: 'full precision', 'strict' or 'paper'.
        stage: 'teacher', 'calibrated' or 'distilled'.
        psnr: PSNR on the Y channel in dB, mean over the test images.
        ssim: SSIM on the Y channel, mean over the test images.
        levels_max: the largest number of codes that a quantizer used; None in full precision.
        levels_over: how many quantizers used more than 2^bits codes; None in full precision.
        images: folder of the upscaled images as PNG, named like the HR images.
    """

    recipe: str
    stage: str
    psnr: float
    ssim: float
    levels_max: int | None
    levels_over: int | None
    images: Path


def prepare(commands: Commands) -> dict[str, dict[str, Any]]:
    """Creates the LMDBs and returns the options of the data sets `train` and `test`."""
    made = {}
    for part, name, crop in (
        ('train', 'Demo', ['--crop', '240', '--step', '240']),
        ('test', TEST_SET, ['--crop', '0']),
    ):
        arguments = [f'images/{part}', '-o', 'data', '--name', name, '--scale', str(SCALE), *crop]
        commands.run(f'Data: {part} images at both resolutions', ['compsrt', 'data', 'prepare', *arguments])
        tail = '_sub.lmdb' if part == 'train' else '.lmdb'
        made[part] = {
            'name': name,
            'type': 'PairedImageDataset',
            'dataroot_gt': f'data/{name}_HR{tail}',
            'dataroot_lq': f'data/{name}_LRx{SCALE}{tail}',
            'io_backend': {'type': 'lmdb'},
        }
    return made


def train(commands: Commands, recipe: str, data: dict[str, Any], budget: Budget) -> dict[str, Path]:
    """Calibrates and distils a network; returns the checkpoint of each stage."""
    file = RECIPES[recipe] / ROW
    name = f'{recipe}_x{SCALE}_w{BITS}a{BITS}'
    training_set = {
        **data['train'],
        'gt_size': budget.lr_patch * SCALE,
        'use_hflip': True,
        'use_rot': True,
        'num_worker_per_gpu': 0,
        'batch_size_per_gpu': budget.batch,
        'dataset_enlarge_ratio': 100,
    }
    forced = {
        'name': name,
        'num_gpu': _gpus(),
        'path:pretrain_network_t': TEACHER,
        'datasets': {'train': training_set},
        'calibration:num_patches': budget.calibration_patches,
        'train:total_iter': budget.iterations,
        **_shortened_schedule(file, budget.iterations),
        'val': None,
        'logger:print_freq': max(budget.iterations // 10, 1),
        'logger:use_tb_logger': False,
    }
    title = f'{recipe.capitalize()}: calibration, then {budget.iterations} iterations of distillation'
    commands.run(title, ['basicsr', 'train', '-opt', str(file), *force(forced)], budget.iterations)
    models = commands.folder / 'experiments' / name / 'models'
    return {'calibrated': models / 'net_g_calibrated.pth', 'distilled': models / 'net_g_latest.pth'}


def _shortened_schedule(file: Path, iterations: int) -> dict[str, Any]:
    """Shortens a cosine schedule to the demo's training; other schedules stay unchanged."""
    schedule = read_option_file(str(file))[0]['train']['scheduler']
    return {'train:scheduler:periods': [iterations]} if 'periods' in schedule else {}


def test(commands: Commands, recipe: str, stage: str, checkpoint: Path, data: dict[str, Any]) -> Result:
    """Tests a quantized checkpoint on the held-out images."""
    file = RECIPES[recipe] / f'test_{ROW}'
    forced = {'path:pretrain_network_g': str(checkpoint.relative_to(commands.folder))}
    return _test(commands, recipe, stage, file, forced, data)


def test_teacher(commands: Commands, data: dict[str, Any]) -> Result:
    """Tests the full-precision network: the same option file with BasicSR's SwinIR instead of ours."""
    file = RECIPES['strict'] / f'test_{ROW}'
    network = dict(read_option_file(str(file))[0]['network_g'])
    del network['quant']
    forced = {'network_g': {**network, 'type': 'SwinIR'}, 'path:pretrain_network_g': TEACHER}
    return _test(commands, 'full precision', 'teacher', file, forced, data)


def _test(
    commands: Commands, recipe: str, stage: str, file: Path, forced: dict[str, Any], data: dict[str, Any]
) -> Result:
    name = f'{recipe}_{stage}'.replace(' ', '_')
    forced = {
        'name': name,
        'num_gpu': _gpus(),
        'datasets': {'test_1': data['test']},
        **forced,
        'val:save_img': True,
        'val:suffix': f'x{SCALE}',
    }
    commands.run(f'{recipe.capitalize()}: test, {stage}', ['basicsr', 'test', '-opt', str(file), *force(forced)])
    folder = commands.folder / 'results' / name
    (metrics,) = json.loads((folder / 'metrics.json').read_text())[TEST_SET].values()
    levels = [int(metrics[key]) if key in metrics else None for key in ('levels_max', 'levels_over')]
    return Result(recipe, stage, metrics['psnr'], metrics['ssim'], *levels, folder / 'visualization' / TEST_SET)


def _gpus() -> int:
    return min(torch.cuda.device_count(), 1)
