"""The calibration of a student before its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.models.calibration_data import calibration_patches
from compsrt_basicsr.models.devices import take_from_first
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.functional.padding import pad_to_multiple
from compsrt_basicsr.utils.text import counted


def calibrate_student(
    student: nn.Module, opt: Mapping[str, Any], device: torch.device, multiple: int, unpruned: bool
) -> Tensor:
    """Calibrates a network in place, with the same result in every process.

    Args:
        student: the quantized network, not wrapped for distributed training.
        opt: the options of the run.
        device: where the network is.
        multiple: number whose multiples the sides of a patch must be.
        unpruned: whether pruning waits for the training's schedule.

    Returns:
        The LR patches used, (N, C, H, W) in [0, 1].

    Raises:
        CompSRTError: if the patches cannot be read, or the calibration fails.
    """
    config = CalibrationConfig.from_opt(opt.get('calibration'))
    patches = pad_to_multiple(calibration_patches(config, opt).to(device), multiple)
    number = counted(len(patches), 'LR patch', 'LR patches')
    get_root_logger().info(f'Calibrating on {number} of {patches.shape[-2]}x{patches.shape[-1]}.')
    calibrate(student, patches, config, opt['rank'] == 0, 0.0 if unpruned else None)
    take_from_first(student, opt)
    return patches
