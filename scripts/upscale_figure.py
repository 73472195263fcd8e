"""Draw docs/images/upscale.png: a detail of a small photograph, upscaled bicubically and by the packaged network."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import skimage
from PIL import Image, ImageDraw

from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.data import bicubic
from compsrt_basicsr.inference.upscale import upscale

TOP, LEFT, SIDE = 36, 72, 48  # of the detail, in pixels of the small photograph
ZOOM, MARGIN, LINE = 3, 8, 18  # repeats of each pixel; pixels of the drawing


def panels() -> dict[str, np.ndarray]:
    """Returns the detail by each method and of the original, (2 SIDE, 2 SIDE, 3)."""
    original = bicubic.mod_crop(skimage.data.chelsea(), 2)
    small = bicubic.downscale(original, 2)
    images = {
        'bicubic': bicubic.upscale(small, 2),
        'compsrt upscale': upscale(load_network('zoo://swinir_light_x2_house'), small),
        'original': original,
    }
    detail = slice(2 * TOP, 2 * (TOP + SIDE)), slice(2 * LEFT, 2 * (LEFT + SIDE))
    return {name: image[detail] for name, image in images.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('-o', '--out', type=Path, default=Path('docs/images/upscale.png'))
    out = parser.parse_args().out
    shown = panels()
    side = 2 * SIDE * ZOOM
    sheet = Image.new('RGB', (len(shown) * (side + MARGIN) - MARGIN, LINE + side), 'white')
    draw = ImageDraw.Draw(sheet)
    for number, (name, image) in enumerate(shown.items()):
        left = number * (side + MARGIN)
        draw.text((left, 2), name, 'black')
        sheet.paste(Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST), (left, LINE))
    sheet.save(out, optimize=True)


if __name__ == '__main__':
    main()
