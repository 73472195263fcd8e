"""The images of a compression: some to calibrate on, others to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compsrt_basicsr.data.bicubic import downscale, mod_crop
from compsrt_basicsr.data.images import list_images, read_image
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.patches import Patches
from compsrt_basicsr.utils.text import counted

# Of scikit-image's photographs: whole ones (None) or a box (left, top, right, bottom) to calibrate on, and to measure.
_CALIBRATION = {
    'motorcycle_left.png': None,
    'motorcycle_right.png': None,
    'ihc.png': None,
    'rocket.jpg': None,
    'hubble_deep_field.jpg': (240, 120, 720, 600),
}
_HELD_OUT = ('astronaut.png', 'chelsea.png', 'coffee.png')
_HELD_OUT_SIDE = 256  # pixels of the original, from its centre
_MOST_HELD_OUT, _MOST = 8, 100  # images that are read of a folder
_EVERY = 5  # one of so many images of a folder is held out
_OF_IMAGE, _OF_PATCH = 4, 16  # candidates for calibration patches: at least so many of each image, for each patch
_EVERY_DETAILED = 4  # one of so many of the most detailed candidates is taken
_SMALLEST = 64  # pixels of an original
_FRAME_SIDE, _FRAME_LEVELS = 16, 6  # two images are frames of a video if their thumbnails differ by fewer grey levels


@dataclass(frozen=True)
class Photograph:
    """An image at both resolutions.

    Attributes:
        name: of the file.
        original: (H, W, 3) uint8, sides multiples of the scale.
        small: (H / scale, W / scale, 3) uint8, by bicubic reduction; the original itself for scale 1.
    """

    name: str
    original: np.ndarray
    small: np.ndarray


@dataclass(frozen=True)
class Images:
    """What a compression sees.

    Attributes:
        calibration: images to calibrate and to train on.
        held_out: images to measure on.
        origin: where they come from, for the report.
    """

    calibration: tuple[Photograph, ...]
    held_out: tuple[Photograph, ...]
    origin: str


def choose_images(folder: Path | None, scale: int) -> Images:
    """Reads the images of a folder, every fifth of which is held out, or the photographs of scikit-image.

    Args:
        folder: high-resolution images; None: the photographs that scikit-image ships.
        scale: of the network.

    Raises:
        CompSRTError: if the folder has fewer than two images, unusable ones, or frames of a video, or scikit-image is
            not installed.
    """
    if folder is None:
        return _photographs(scale)
    paths = list_images(folder)
    if len(paths) < 2:
        raise CompSRTError(f'`{folder}` holds one image: give at least two, since one is held out to measure on.')
    held_out = paths[:: max(_EVERY, -(-len(paths) // _MOST_HELD_OUT))]
    others = [path for path in paths if path not in held_out]
    step = -(-len(others) // _MOST)
    kept = others[::step]
    pictures = {path: _read(path) for path in paths if path in (*held_out, *kept)}
    _refuse_frames(folder, list(pictures.values()))
    return Images(
        tuple(_photograph(path.name, pictures[path], scale) for path in kept),
        tuple(_photograph(path.name, _centre(pictures[path]), scale) for path in held_out),
        f'the {counted(len(paths), "image")} of `{folder}`',
    )


def calibration_patches(images: Images, count: int, side: int, channels: int) -> Tensor:
    """Returns LR patches, (count, channels, side, side) in [0, 1], the same for the same images.

    Of many patches, it takes every fourth of the most detailed ones: most of a photograph is smooth, and a network
    loses its dB at edges.

    Raises:
        CompSRTError: if no image is large enough.
    """
    small = [image.small for image in images.calibration]
    candidates = max(_OF_IMAGE * len(small), _OF_PATCH * count)
    patches = torch.cat(list(Patches(small, candidates, side, channels, seed=0)))
    by_detail = sorted(patches, key=detail_of, reverse=True)
    return torch.stack(by_detail[: _EVERY_DETAILED * count : _EVERY_DETAILED])


def detail_of(image: Tensor) -> float:
    """Returns the mean squared difference of neighbouring pixels of (C, H, W), the sum of both directions."""
    return sum(float(image.diff(dim=dim).square().mean()) for dim in (1, 2))


def _photographs(scale: int) -> Images:
    try:
        import skimage
    except ImportError as error:
        raise CompSRTError(
            'The default images come with scikit-image: `python -m pip install scikit-image`, or give a folder of '
            'images with --data.'
        ) from error
    folder = Path(skimage.__file__).parent / 'data'
    calibration = []
    for name, box in _CALIBRATION.items():
        left, top, right, bottom = box or (0, 0, None, None)
        calibration.append(_photograph(name, _read(folder / name)[top:bottom, left:right], scale))
    held_out = [_photograph(name, _centre(_read(folder / name)), scale) for name in _HELD_OUT]
    return Images(tuple(calibration), tuple(held_out), 'photographs that scikit-image ships')


def _read(path: Path) -> np.ndarray:
    values = read_image(path)
    if min(values.shape[:2]) < _SMALLEST:
        raise CompSRTError(
            f'`{path}` has {values.shape[1]}x{values.shape[0]} pixels: give images of at least {_SMALLEST}x{_SMALLEST}.'
        )
    return values if values.ndim == 3 else np.stack([values] * 3, -1)


def _centre(values: np.ndarray) -> np.ndarray:
    top, left = (max(side - _HELD_OUT_SIDE, 0) // 2 for side in values.shape[:2])
    return values[top : top + _HELD_OUT_SIDE, left : left + _HELD_OUT_SIDE]


def _photograph(name: str, values: np.ndarray, scale: int) -> Photograph:
    original = np.ascontiguousarray(mod_crop(values, scale))
    return Photograph(name, original, original if scale == 1 else downscale(original, scale))


def _refuse_frames(folder: Path, pictures: Sequence[np.ndarray]) -> None:
    """Raises CompSRTError if most images look like their neighbours: held-out ones would be the calibration's own."""
    small = [_thumbnail(x) for x in pictures if x.shape == pictures[0].shape]
    near = [np.abs(a - b).mean() < _FRAME_LEVELS for a, b in pairwise(small)]
    if len(small) == len(pictures) > 2 and sum(near) > len(near) / 2:
        raise CompSRTError(
            f'The images of `{folder}` look like frames of one video: held-out images would be almost those of the '
            'calibration. Give different photographs.'
        )


def _thumbnail(values: np.ndarray) -> np.ndarray:
    rows, columns = (np.linspace(0, side, _FRAME_SIDE + 1).astype(int)[:-1] for side in values.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(values.astype(float), rows, 0), columns, 1)
    counts = np.add.reduceat(np.add.reduceat(np.ones(values.shape[:2]), rows, 0), columns, 1)
    return sums / counts[..., None]
