"""Measure how far tiled results are from whole ones, in grey levels, for several overlaps of the tiles.

    python scripts/measure_tiling.py --benchmark benchmark/Set14/LR_bicubic/X2 --json docs/results/tiling.json
    python scripts/measure_tiling.py --show docs/results/tiling.json

Small versions of scikit-image's photographs and the images of a folder, cropped to their middle, are upscaled whole and
in tiles that keep 64 pixels each. Tiles this small put more seams into an image than the default tiles do.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import torch
from tabulate import tabulate

import compsrt_basicsr
from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT, CompSRTSwinIR
from compsrt_basicsr.checkpoints.load import QUANTIZED, LoadedNetwork, load_network
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.data.bicubic import downscale, mod_crop
from compsrt_basicsr.data.images import list_images, read_image
from compsrt_basicsr.inference.upscale import UpscaleSettings, upscale
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

TEACHER = 'zoo://swinir_light_x2_house'
PHOTOGRAPHS = ('astronaut', 'chelsea', 'coffee', 'rocket')
SIDE, KEPT = 192, 64  # pixels of the input
OVERLAPS = (0, 8, 16, 24, 32, 48)
QUANT = {'weight_bits': 4, 'act_bits': 4, 'code_range': 'strict'}


def photographs() -> dict[str, np.ndarray]:
    """Returns scikit-image's photographs, reduced by 2."""
    return {name: downscale(mod_crop(getattr(skimage.data, name)(), 2), 2) for name in PHOTOGRAPHS}


def middle(image: np.ndarray) -> np.ndarray:
    """Returns (SIDE, SIDE, channels) from the middle, less if the image is smaller."""
    if image.ndim == 2:
        image = image[:, :, None]
    top, left = (max(0, (length - SIDE) // 2) for length in image.shape[:2])
    return image[top : top + SIDE, left : left + SIDE]


def quantized_model() -> LoadedNetwork:
    """Returns the teacher at 4 bits, calibrated on patches of another image and not distilled."""
    network = CompSRTSwinIR(**SWINIR_LIGHT, quant=QUANT)
    network.load_state_dict(read_state(TEACHER))
    image = downscale(skimage.data.immunohistochemistry(), 2)
    patches = np.stack([image[top : top + 64, left : left + 64] for top in (0, 64) for left in (0, 64)])
    calibrate(network, torch.from_numpy(patches).permute(0, 3, 1, 2) / 255, CalibrationConfig(), progress=False)
    record = {'arch': 'CompSRTSwinIR', 'args': SWINIR_LIGHT, 'quant': QUANT}
    return LoadedNetwork(network.eval(), 2, SWINIR_LIGHT['window_size'], 3, QUANTIZED, 'calibrated', record)


def measure(model: LoadedNetwork, images: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Returns for each overlap the largest difference of each image, and the shares of values that differ."""
    counts = {overlap: np.zeros(256, np.int64) for overlap in OVERLAPS}
    largest: dict[int, dict[str, int]] = {overlap: {} for overlap in OVERLAPS}
    for name, image in images.items():
        part = middle(image)
        whole = upscale(model, part, UpscaleSettings(tile=0)).astype(int)
        for overlap in OVERLAPS:
            tiled = upscale(model, part, UpscaleSettings(tile=KEPT + 2 * overlap, overlap=overlap))
            difference = np.abs(tiled - whole)
            counts[overlap] += np.bincount(difference.ravel(), minlength=256)
            largest[overlap][name] = int(difference.max())
        print(name, {overlap: largest[overlap][name] for overlap in OVERLAPS}, flush=True)
    return {
        str(overlap): {
            'largest': largest[overlap],
            'beyond_0': float(count[1:].sum() / count.sum()),
            'beyond_1': float(count[2:].sum() / count.sum()),
        }
        for overlap, count in counts.items()
    }


def table(record: dict[str, Any]) -> str:
    """Returns the numbers of a record as a Markdown table."""
    rows = [
        [
            network,
            int(overlap),
            max(figures['largest'].values()),
            f'{sum(value <= 1 for value in figures["largest"].values())} of {len(figures["largest"])}',
            f'{100 * figures["beyond_0"]:.4f} %',
            f'{100 * figures["beyond_1"]:.4f} %',
        ]
        for network, by_overlap in record['differences'].items()
        for overlap, figures in by_overlap.items()
    ]
    headers = ['network', 'overlap', 'largest', 'images within 1', 'values off', 'off by more than 1']
    return tabulate(rows, headers, tablefmt='github', disable_numparse=True)


def main() -> None:
    """Measures, or shows a measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--benchmark', type=Path, help='folder of small images')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--json', type=Path, help='write the numbers to this file')
    parser.add_argument('--show', type=Path, help='print the table of such a file and measure nothing')
    args = parser.parse_args()
    if args.show:
        print(table(json.loads(args.show.read_text())))
        return
    torch.set_num_threads(args.threads)
    photos = photographs()
    benchmark = {path.name: read_image(path) for path in list_images(args.benchmark)} if args.benchmark else {}
    record = {
        'command': f'python scripts/measure_tiling.py --benchmark {args.benchmark} --threads {args.threads}',
        'version': compsrt_basicsr.__version__,
        'torch': torch.__version__,
        'device': 'cpu',
        'model': TEACHER,
        'quant': QUANT,
        'side': SIDE,
        'kept': KEPT,
        'differences': {
            '4 bits, calibrated': measure(quantized_model(), photos),
            'full precision': measure(load_network(TEACHER), {**photos, **benchmark}),
        },
    }
    print(table(record))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.json, json_text(record, indent=2))


if __name__ == '__main__':
    main()
