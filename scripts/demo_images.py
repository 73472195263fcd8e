"""The demo's photographs: colour images from the scikit-image package, split into training and test images."""

from __future__ import annotations

from pathlib import Path

import skimage
from PIL import Image

# Training: whole images (None) or a box (left, top, right, bottom).
TRAIN = {
    'motorcycle_left.png': None,
    'motorcycle_right.png': None,
    'ihc.png': None,
    'rocket.jpg': None,
    'hubble_deep_field.jpg': (240, 120, 720, 600),
}
# Test: the centre (x, y) of a square crop.
TEST = {'astronaut.png': (220, 128), 'chelsea.png': (228, 148), 'coffee.png': (330, 190)}


def write_images(folder: Path, test_side: int) -> None:
    """Writes the HR images as PNG to the subfolders `train` and `test`.

    Args:
        folder: parent of the two subfolders.
        test_side: side of the square test images in pixels.
    """
    source = Path(skimage.__file__).parent / 'data'
    boxes = {'train': TRAIN, 'test': {name: square(centre, test_side) for name, centre in TEST.items()}}
    for part, images in boxes.items():
        (folder / part).mkdir(parents=True)
        for name, box in images.items():
            with Image.open(source / name) as image:
                image.convert('RGB').crop(box or (0, 0, *image.size)).save(folder / part / f'{Path(name).stem}.png')


def square(centre: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """Returns the box (left, top, right, bottom) of a square."""
    left, top = (middle - side // 2 for middle in centre)
    return left, top, left + side, top + side
