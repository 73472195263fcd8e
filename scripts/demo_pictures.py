"""The demo's photographs: colour pictures inside scikit-image's wheel, split into training and test pictures."""

from __future__ import annotations

from pathlib import Path

import skimage
from PIL import Image

# Training: whole pictures, or the box (left, top, right, bottom) of the deep field that holds most galaxies.
TRAIN = {
    'motorcycle_left.png': None,
    'motorcycle_right.png': None,
    'ihc.png': None,
    'rocket.jpg': None,
    'hubble_deep_field.jpg': (240, 120, 720, 600),
}
# Test: the centre of a square of detail. None of these pictures is trained on.
TEST = {'astronaut.png': (220, 128), 'chelsea.png': (228, 148), 'coffee.png': (330, 190)}


def write_pictures(folder: Path, test_side: int) -> None:
    """Writes the HR pictures as PNG to `train/` and `test/`.

    Args:
        folder: where the two folders go.
        test_side: side of the square test pictures in pixels.
    """
    source = Path(skimage.__file__).parent / 'data'
    boxes = {'train': TRAIN, 'test': {name: square(centre, test_side) for name, centre in TEST.items()}}
    for part, pictures in boxes.items():
        (folder / part).mkdir(parents=True)
        for name, box in pictures.items():
            with Image.open(source / name) as picture:
                picture.convert('RGB').crop(box or (0, 0, *picture.size)).save(folder / part / f'{Path(name).stem}.png')


def square(centre: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """Returns the box of a square."""
    left, top = (middle - side // 2 for middle in centre)
    return left, top, left + side, top + side
