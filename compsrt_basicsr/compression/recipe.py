"""The option file of a compression, which `basicsr train` runs, and the data that it names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from compsrt_basicsr.compression.images import Photograph, detail_of
from compsrt_basicsr.compression.source import Source
from compsrt_basicsr.data.bicubic import downscale
from compsrt_basicsr.data.lmdb_writer import encode_png
from compsrt_basicsr.utils.atomic_write import write_bytes, write_text
from compsrt_basicsr.utils.torch_io import atomic_save

RECIPE, CALIBRATED, PATCHES, DATA = 'recipe.yml', 'calibrated.pth', 'calibration.pth', 'data'
_TILE, _MOST_TILES = 240, 256  # pixels of an original, number
_ALL_TILES = 64  # so many tiles are all used; of more, the more detailed half
_PATCH, _BATCH = 32, 4  # LR pixels, patches


@dataclass(frozen=True)
class Training:
    """How long and on what a network trains; 0 iterations: it is calibrated only."""

    iterations: int
    patch: int
    batch: int


def training_of(multiple: int, iterations: int = 0) -> Training:
    """Returns a training on patches that a network takes."""
    return Training(iterations, -(-_PATCH // multiple) * multiple, _BATCH)


def run_name(source: Source, scheme: str) -> str:
    """Returns the name of the run and of the packed file."""
    return f'{re.sub(r"[^A-Za-z0-9_.-]", "_", source.name)}_{scheme.lower()}'


def recipe(
    source: Source,
    name: str,
    quant: Mapping[str, Any],
    calibration: Mapping[str, Any],
    training: Training,
    folder: Path,
) -> dict[str, Any]:
    """Returns the options of the run, which calibrates the network and trains it if `training` says so.

    Args:
        source: the network in full precision.
        name: of the run.
        quant: the section `quant`.
        calibration: the section `calibration`, without its patches.
        training: iterations and patches.
        folder: OUT, with the data and the patches.
    """
    root, scale, total = folder.resolve(), source.loaded.scale, training.iterations
    path: dict[str, Any] = {'resume_state': None}
    if not source.has_own_weights:
        path |= {'pretrain_network_t': str(source.file.resolve()), 'param_key_t': source.param_key}
    if total:
        path |= {'pretrain_network_g': str(root / CALIBRATED), 'param_key_g': 'params'}
    return {
        'name': name,
        'model_type': 'CompSRTModel',
        'scale': scale,
        'num_gpu': 'auto',
        'manual_seed': 0,
        'datasets': {'train': _training_set(root, scale, source.loaded.channels, training)},
        'network_g': _student(source, quant),
        'network_t': source.section,
        'path': path,
        'calibration': {**calibration, 'file': str(root / PATCHES)},
        'train': {
            'trainable': 'all' if total else 'none',
            **({'weight_lr': 1e-4, 'unquantized_lr': 1e-5} if total else {}),
            'optim_g': {'type': 'Adam', 'lr': 2e-3, 'weight_decay': 0, 'betas': [0.9, 0.99]},
            'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [max(total, 1)], 'eta_min': 0},
            'total_iter': max(total, 1),
            'warmup_iter': -1,
            'grad_clip_value': 1.0,
            'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
        },
        'logger': {
            'print_freq': max(total // 20, 1),  # each line counts the codes, which takes as long as an iteration
            'save_checkpoint_freq': max(total // 10, 1),
            'use_tb_logger': False,
        },
    }


def write_recipe(options: Mapping[str, Any], folder: Path) -> Path:
    """Writes the option file; returns it."""
    header = '# Written by `compsrt compress`. Command: basicsr train -opt recipe.yml\n\n'
    write_text(folder / RECIPE, header + yaml.safe_dump(dict(options), sort_keys=False))
    return folder / RECIPE


def write_data(images: tuple[Photograph, ...], patches: Tensor, scale: int, smallest: int, folder: Path) -> None:
    """Writes what the option file names: the calibration patches, and tiles of the images at both resolutions.

    Args:
        images: those of the calibration.
        patches: (N, C, P, P) in [0, 1].
        scale: of the network.
        smallest: least side of a tile, in pixels of the original.
        folder: OUT.
    """
    atomic_save({'lq': patches.cpu()}, folder / PATCHES)
    high, low = (folder / DATA / name for name in ('hr', 'lr'))
    for target in (high, low):
        target.mkdir(parents=True, exist_ok=True)
        for old in target.glob('*.png'):
            old.unlink()
    tiles = [tile for image in images for tile in _tiles(image.original, scale) if min(tile.shape[:2]) >= smallest]
    tiles.sort(key=lambda tile: detail_of(torch.from_numpy(tile).permute(2, 0, 1).float()), reverse=True)
    tiles = tiles[: max(_ALL_TILES, len(tiles) // 2)]
    for number, tile in enumerate(tiles[:: -(-len(tiles) // _MOST_TILES)]):
        small = tile if scale == 1 else downscale(tile, scale)
        for target, values in ((high, tile), (low, small)):
            write_bytes(target / f'{number:04d}.png', encode_png(np.ascontiguousarray(values), 3))


def example_batch(patches: Tensor, training: Training) -> Tensor:
    """Returns a batch as one of the training, for its time."""
    batch = patches[: training.batch, :, : training.patch, : training.patch]
    return batch if len(batch) == training.batch else torch.cat([batch[:1]] * training.batch)


def _tiles(values: np.ndarray, scale: int) -> list[np.ndarray]:
    side = _TILE // scale * scale
    height, width = values.shape[:2]
    tops, lefts = (range(0, max(n - side, 0) + 1, side) for n in (height, width))
    return [values[top : top + side, left : left + side] for top in tops for left in lefts]


def _student(source: Source, quant: Mapping[str, Any]) -> dict[str, Any]:
    if source.section['type'] == 'SwinIR':
        return {**source.section, 'type': 'CompSRTSwinIR', 'quant': dict(quant)}
    return {'type': 'CompSRTNet', 'base': source.section, 'quant': dict(quant)}


def _training_set(root: Path, scale: int, channels: int, training: Training) -> dict[str, Any]:
    return {
        'name': 'compress',
        'type': 'PairedImageDataset',
        'dataroot_gt': str(root / DATA / 'hr'),
        'dataroot_lq': str(root / DATA / 'lr'),
        'io_backend': {'type': 'disk'},
        'gt_size': training.patch * scale,
        'use_hflip': True,
        'use_rot': True,
        'num_worker_per_gpu': 0,
        'batch_size_per_gpu': training.batch,
        'dataset_enlarge_ratio': 100,
        **({'color': 'y'} if channels == 1 else {}),
    }


def clear(out: Path, files: Sequence[str]) -> None:
    """Removes what another compression left in its folder that would be taken for another's, and `files`."""
    for name in ('experiments', DATA):
        shutil.rmtree(out / name, ignore_errors=True)
    for file in (CALIBRATED, RECIPE, *files):
        (out / file).unlink(missing_ok=True)


def iterations_of(file: Path) -> int:
    """Returns for how many iterations a recipe trains."""
    from compsrt_basicsr.config.option_file import read_option_file

    return int(read_option_file(str(file))[0]['train']['total_iter'])
