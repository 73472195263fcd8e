"""PSNR-Y of integer execution and of fake quantization, image by image.

    python scripts/compare_execution.py HR_FOLDER CALIBRATION_FOLDER [--json docs/results/execution_parity.json]

SwinIR-light x2 with the packaged weights at 4 bits, calibrated on four images of CALIBRATION_FOLDER (HR, halved like
training images), tested on HR_FOLDER. Both compute the same function and differ only by float rounding, which moves a
code now and then. For comparison, fake quantization also runs with another convolution routine of torch, which changes
nothing but rounding either. `python scripts/execution_tables.py` writes the record into docs/integer.md.
"""

from __future__ import annotations

import argparse
import copy
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import compsrt_basicsr
from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT, CompSRTSwinIR
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.data.bicubic import downscale, mod_crop
from compsrt_basicsr.data.images import list_images, read_image
from compsrt_basicsr.integer.execution import set_execution_
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.functional.padding import pad_to_multiple
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

compsrt_basicsr.register()
from basicsr.metrics import calculate_psnr  # noqa: E402
from basicsr.utils import img2tensor, tensor2img  # noqa: E402

SCALE, WINDOW, PATCH, PATCHES = 2, 8, 64, 4


def lr_image(hr: np.ndarray) -> Tensor:
    """Returns the LR image of a uint8 image (H, W, 3) as float (1, 3, H / SCALE, W / SCALE) in [0, 1]."""
    return img2tensor(downscale(hr, SCALE) / 255.0, bgr2rgb=False, float32=True)[None]


def calibrated(folder: Path) -> nn.Module:
    """Returns the quantized network, calibrated on the first images of a folder that are large enough."""
    network = CompSRTSwinIR(**SWINIR_LIGHT, quant={})
    network.load_state_dict(read_state('zoo://swinir_light_x2_house'))
    side = SCALE * PATCH
    patches: list[Tensor] = []
    for path in list_images(folder):
        hr = read_image(path)
        if hr.ndim == 3 and min(hr.shape[:2]) >= side and len(patches) < PATCHES:
            patches.append(lr_image(hr[:side, :side]))
    if len(patches) < PATCHES:
        raise SystemExit(f'`{folder}` needs {PATCHES} colour images of at least {side}x{side} pixels.')
    calibrate(network, torch.cat(patches), CalibrationConfig(), progress=False)
    return network.eval().requires_grad_(False)


def psnr(network: nn.Module, hr: np.ndarray) -> float:
    """Returns PSNR-Y in dB without a border of SCALE pixels."""
    hr = mod_crop(hr, SCALE)
    output = network(pad_to_multiple(lr_image(hr), WINDOW))[..., : hr.shape[0], : hr.shape[1]]
    result = tensor2img([output], rgb2bgr=True)
    return float(calculate_psnr(result, hr[..., ::-1], crop_border=SCALE, test_y_channel=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('images', type=Path, help='HR test images')
    parser.add_argument('calibration', type=Path, help='HR images to calibrate on')
    parser.add_argument('--json', type=Path, help='write the record to this file')
    args = parser.parse_args()
    torch.set_num_threads(1)
    fake = calibrated(args.calibration)
    integer = copy.deepcopy(fake)
    print(f'Integer: {set_execution_(integer, "integer")}')
    variants = {
        'fake': (fake, nullcontext),
        'integer': (integer, nullcontext),
        'other convolution': (fake, lambda: torch.backends.mkldnn.flags(enabled=False)),
    }
    results: dict[str, dict[str, float]] = {name: {} for name in variants}
    with torch.no_grad():
        for path in list_images(args.images):
            hr = read_image(path)
            for name, (network, context) in variants.items():
                with context():
                    results[name][path.stem] = psnr(network, hr)
            print(path.stem, *(f'{name} {values[path.stem]:.5f}' for name, values in results.items()), flush=True)
    record = {
        'command': 'python scripts/compare_execution.py Set5/HR T91',
        'torch': torch.__version__,
        'version': compsrt_basicsr.__version__,
        'psnr': results,
    }
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.json, json_text(record, indent=2))


if __name__ == '__main__':
    main()
