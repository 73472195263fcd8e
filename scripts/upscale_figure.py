"""Draw docs/images/upscale.png: a detail of a small photograph, upscaled bicubically and by the packaged networks."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import skimage
from PIL import Image, ImageDraw

from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.data import bicubic
from compsrt_basicsr.inference.upscale import upscale

SCALE, TEACHER = 4, 'swinir_light_x4_house'
PACKED = f'{TEACHER}_w4a4_p40'
TOP, LEFT, SIDE = 17, 38, 34  # of the detail, in pixels of the small photograph
ZOOM, MARGIN, LINE = 2, 8, 18  # repeats of each pixel; pixels of the drawing


def panels() -> dict[str, np.ndarray]:
    """Returns the detail by each method and of the original, (SCALE SIDE, SCALE SIDE, 3)."""
    original = bicubic.mod_crop(skimage.data.chelsea(), SCALE)
    small = bicubic.downscale(original, SCALE)
    images = {
        'bicubic': bicubic.upscale(small, SCALE),
        'full precision': upscale(load_network(TEACHER), small),
        '4 bits, 40% pruned': upscale(load_network(PACKED), small),
        'original': original,
    }
    detail = slice(SCALE * TOP, SCALE * (TOP + SIDE)), slice(SCALE * LEFT, SCALE * (LEFT + SIDE))
    return {name: image[detail] for name, image in images.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('-o', '--out', type=Path, default=Path('docs/images/upscale.png'))
    out = parser.parse_args().out
    shown = panels()
    side = SCALE * SIDE * ZOOM
    sheet = Image.new('RGB', (len(shown) * (side + MARGIN) - MARGIN, LINE + side), 'white')
    draw = ImageDraw.Draw(sheet)
    for number, (name, image) in enumerate(shown.items()):
        left = number * (side + MARGIN)
        draw.text((left, 2), name, 'black')
        sheet.paste(Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST), (left, LINE))
    sheet.save(out, optimize=True)


if __name__ == '__main__':
    main()
