"""ONNX models of the packaged teacher, full-precision and calibrated: their size, and ONNX Runtime against torch.

    python scripts/measure_onnx.py --benchmark Set5 --train T91 --json docs/results/onnx.json
    python scripts/measure_onnx.py --show docs/results/onnx.json

`--benchmark` is a folder of original images, or has them in `HR`; they are halved. Crops of 128x128 pixels of the
images in `--train`, halved, are used for calibration. The quantized networks are not distilled.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from tabulate import tabulate
from torch import Tensor, nn

import compsrt_basicsr
from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT, CompSRTSwinIR
from compsrt_basicsr.archs.rebuild import geometry
from compsrt_basicsr.checkpoints.load import LoadedNetwork, load_network
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.data.bicubic import downscale
from compsrt_basicsr.data.images import list_images, read_image
from compsrt_basicsr.onnx import check as onnx_check
from compsrt_basicsr.onnx.generic import export_generic
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

TEACHER = 'zoo://swinir_light_x2_house'
BITS = (4, 3, 2)
PATCHES, SIDE = 8, 128  # pixels before halving


def calibration_patches(folder: Path) -> Tensor:
    """Returns (PATCHES, 3, 64, 64) from the first images in a seeded order that are large enough."""
    rng = np.random.default_rng(0)
    patches: list[np.ndarray] = []
    for path in rng.permutation(list_images(folder)):
        image = read_image(path)
        if image.ndim == 3 and min(image.shape[:2]) >= SIDE and len(patches) < PATCHES:
            top, left = (int(rng.integers(length - SIDE + 1)) for length in image.shape[:2])
            patches.append(downscale(image[top : top + SIDE, left : left + SIDE], 2))
    return torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2) / 255


def calibrated(bits: int, patches: Tensor) -> tuple[nn.Module, dict[str, Any]]:
    """Returns the teacher at a bit width with strict code range, and its record."""
    quant = {'weight_bits': bits, 'act_bits': bits}
    network = CompSRTSwinIR(**SWINIR_LIGHT, quant=quant)
    network.load_state_dict(read_state(TEACHER))
    calibrate(network, patches, CalibrationConfig(), progress=False)
    return network.eval().requires_grad_(False), {'arch': 'CompSRTSwinIR', 'args': SWINIR_LIGHT, 'quant': quant}


def measure(network: nn.Module, record: dict[str, Any], benchmark: Path) -> dict[str, Any]:
    """Measures the size of the ONNX model and its difference from torch."""
    shape = geometry(record)
    loaded = LoadedNetwork(network, shape.scale, shape.multiple, shape.channels, '', '', record)
    images = list(onnx_check.benchmark_samples(benchmark, shape))
    with tempfile.TemporaryDirectory() as folder:
        made = export_generic(loaded, Path(folder, 'model.onnx'), exact=True, images=images)
        opset = onnx.load(made.file).opset_import[0].version
    found = [comparison for comparison in made.comparisons if comparison.quality]
    return {
        'bytes': made.size,
        'opset': opset,
        'least_db_without_rounding': round(min(c.psnr for c in made.smooth or made.comparisons), 1),
        'pictures': {
            c.name: {
                'psnr_y_torch': round(c.quality[0], 4),
                'psnr_y_onnx': round(c.quality[1], 4),
                'db_between': round(c.psnr, 1),
                'largest_grey_levels': round(c.largest, 4),
            }
            for c in found
        },
    }


def table(record: dict[str, Any]) -> str:
    """Returns the record as a Markdown table."""
    rows = []
    for name, figures in record['networks'].items():
        pictures = figures['pictures'].values()
        ours, theirs = (np.mean([p[f'psnr_y_{side}'] for p in pictures]) for side in ('torch', 'onnx'))
        rows.append(
            [
                name,
                figures['opset'],
                f'{figures["bytes"]:,}',
                f'{ours:.4f}',
                f'{theirs:.4f}',
                f'{abs(ours - theirs):.4f}',
                f'{min(p["db_between"] for p in pictures):.1f}',
                f'{max(p["largest_grey_levels"] for p in pictures):.2f}',
                f'{figures["least_db_without_rounding"]:.1f}',
            ]
        )
    headers = ['network', 'opset', 'bytes', 'PSNR-Y torch', 'PSNR-Y ONNX', 'difference', 'least dB between',
               'most grey levels', 'least dB without rounding']  # fmt: skip
    align = ['left'] + ['right'] * (len(headers) - 1)
    return tabulate(rows, headers, tablefmt='github', disable_numparse=True, colalign=align)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--benchmark', type=Path, help='original images')
    parser.add_argument('--train', type=Path, help='images for calibration')
    parser.add_argument('--json', type=Path, help='write the record to this file')
    parser.add_argument('--show', type=Path, help='print the table of a record and measure nothing')
    args = parser.parse_args()
    if args.show:
        print(table(json.loads(args.show.read_text())))
        return
    teacher = load_network(TEACHER)
    patches = calibration_patches(args.train)
    networks = {'full precision': measure(teacher.network, teacher.record, args.benchmark)}
    for bits in BITS:
        networks[f'{bits} bits, calibrated'] = measure(*calibrated(bits, patches), args.benchmark)
        print(bits, flush=True)
    record = {
        'command': f'python scripts/measure_onnx.py --benchmark {args.benchmark.name} --train {args.train.name}',
        'version': compsrt_basicsr.__version__,
        'torch': torch.__version__,
        'onnxruntime': onnxruntime.__version__,
        'model': TEACHER,
        'networks': networks,
    }
    print(table(record))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.json, json_text(record, indent=2))


if __name__ == '__main__':
    main()
