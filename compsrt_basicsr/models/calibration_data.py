"""Patches of the training set, such as those for a calibration."""

from __future__ import annotations

import random
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from basicsr.data import build_dataset
from torch import Tensor

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.expand_user import expand_user
from compsrt_basicsr.utils.torch_io import read_checkpoint


def calibration_patches(config: CalibrationConfig, opt: Mapping[str, Any]) -> Tensor:
    """Reads LR patches from a file, or draws them from the training set, without flips and the same for the same seed.

    Args:
        config: number, size in pixels, seed, or file of the patches.
        opt: the options of the run: `datasets.train` and `scale`.

    Returns:
        (N, C, P, P) in [0, 1].

    Raises:
        CompSRTError: if the file is missing or has no patches.
    """
    if config.file is not None:
        return _read(expand_user(config.file, '`calibration.file`'))
    pairs = draw_pairs(opt, config.num_patches, config.seed, config.patch_size)
    return torch.stack([pair['lq'] for pair in pairs])


def draw_pairs(
    opt: Mapping[str, Any], number: int, seed: int, patch_size: int | None = None
) -> list[dict[str, Tensor]]:
    """Draws pairs from the training set, without flips and the same for the same seed.

    Args:
        opt: the options of the run: `datasets.train` and `scale`.
        number: how many.
        seed: of the images and places; the random stream of the training is left as it was.
        patch_size: side P of the LR patches in pixels; None for that of the training.

    Returns:
        `lq`, (C, P, P) in [0, 1], and `gt`, (C, sP, sP), of each.
    """
    options = deepcopy(dict(opt['datasets']['train']))
    if patch_size is not None:
        options['gt_size'] = patch_size * opt['scale']
    options.update(use_hflip=False, use_rot=False)
    dataset = build_dataset(options)
    state = random.getstate()
    try:
        random.seed(seed)
        chosen = [random.randrange(len(dataset)) for _ in range(number)]
        return [dataset[index] for index in chosen]
    finally:
        random.setstate(state)


def _read(file: Path) -> Tensor:
    patches = read_checkpoint(file).get('lq')
    if not isinstance(patches, Tensor) or patches.ndim != 4 or not patches.is_floating_point():
        raise CompSRTError(
            f'`{file}` has no calibration patches: expected `lq`, a float tensor (N, C, P, P) in [0, 1].'
        )
    return patches
