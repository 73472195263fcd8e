"""Seeded LR patches from images, read on demand."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from compsrt_basicsr.basicsr_compat.lmdb_store import check_lmdb_folder, open_shared
from compsrt_basicsr.data.check import read_meta_info
from compsrt_basicsr.data.images import check_file, decoding, list_images, read_image
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.image_io import image_size

Images = Path | Sequence[Path | np.ndarray]


@dataclass(frozen=True)
class _Source:
    """Images by name: their names, the size of each (height, width), and how to read one, (H, W) or (H, W, C)."""

    names: list[str]
    size: Callable[[str], tuple[int, int]]
    read: Callable[[str], np.ndarray]


class Patches:
    """Patches of images, each as a batch of one, (1, C, P, P) in [0, 1]; the same at every iteration.

    Images are taken in a random order, each again only after all others. Images smaller than a patch are left out. Only
    one image file is in memory at a time.

    Args:
        data: folder of LR images, a BasicSR LMDB, an image file, or a list of image files and uint8 arrays (H, W) or
            (H, W, 1 to 4).
        count: number of patches.
        side: P, in pixels.
        channels: C, 1 or 3; images are converted to grey or RGB.
        seed: seed of order and positions.

    Raises:
        CompSRTError: if there are no images, none is large enough, or one cannot be read.
    """

    def __init__(self, data: Images, count: int, side: int, channels: int, seed: int) -> None:
        if channels not in (1, 3):
            raise CompSRTError(f'The model takes {channels} channels, not grey or RGB: no images can be given.')
        self._mode = 'L' if channels == 1 else 'RGB'
        self._side = side
        self._source = _source(data)
        self._cuts = self._draw(data, count, np.random.default_rng(seed))

    def __len__(self) -> int:
        return len(self._cuts)

    def __iter__(self) -> Iterator[Tensor]:
        shown, pixels = None, np.zeros((0, 0, 0))
        for name, down, right in self._cuts:
            if name != shown:
                image = Image.fromarray(self._source.read(name)).convert(self._mode)
                shown, pixels = name, np.atleast_3d(np.asarray(image))
            top, left = (int(part * (n - self._side + 1)) for part, n in zip((down, right), pixels.shape))
            cut = pixels[top : top + self._side, left : left + self._side]
            yield torch.from_numpy(cut.copy()).permute(2, 0, 1)[None].float() / 255

    def _draw(self, data: Images, count: int, draw: np.random.Generator) -> list[tuple[str, float, float]]:
        """Name and relative position, 0 to 1, of each patch; EXIF may rotate an image when it is read."""
        large: list[str] = []
        for index in draw.permutation(len(self._source.names)):
            name = self._source.names[index]
            if min(self._source.size(name)) >= self._side:
                large.append(name)
            if len(large) == count:
                break
        if not large:
            raise CompSRTError(
                f'No image of {_name(data)} has {self._side}x{self._side} pixels: '
                'give larger ones, or a smaller patch size.'
            )
        return [(name, *draw.random(2)) for name in sorted(large[i % len(large)] for i in range(count))]


def _name(data: Images) -> str:
    return f'`{data}`' if isinstance(data, Path) else 'the list'


def _source(data: Images) -> _Source:
    if not isinstance(data, Path):
        return _list(data)
    if data.suffix == '.lmdb' or (data / 'data.mdb').exists():
        return _lmdb(data)
    return _list([data]) if data.is_file() else _folder(data)


def _list(images: Sequence[Path | np.ndarray]) -> _Source:
    found = {f'{number:06d}': image for number, image in enumerate(images)}

    def size(name: str) -> tuple[int, int]:
        image = found[name]
        return image_size(image) if isinstance(image, Path) else (image.shape[0], image.shape[1])

    def read(name: str) -> np.ndarray:
        image = found[name]
        values = read_image(image) if isinstance(image, Path) else image
        return values[:, :, 0] if values.shape[2:] == (1,) else values

    return _Source(list(found), size, read)


def _folder(folder: Path) -> _Source:
    paths = {path.name: path for path in list_images(folder)}
    for path in paths.values():
        check_file(path)
    return _Source(list(paths), lambda name: image_size(paths[name]), lambda name: read_image(paths[name]))


def _lmdb(path: Path) -> _Source:
    check_lmdb_folder(str(path))
    shapes = read_meta_info(path / 'meta_info.txt')
    environment = open_shared(str(path), readonly=True, lock=False, readahead=False)

    def read(key: str) -> np.ndarray:
        with environment.begin(buffers=True) as transaction:
            value = transaction.get(key.encode())
            if value is None:
                raise CompSRTError(f'The LMDB `{path}` has no image `{key}`, which its meta_info.txt lists.')
            with decoding(path / key), Image.open(io.BytesIO(value)) as image:
                return np.array(image.convert('L' if image.mode in ('1', 'L') else 'RGB'))

    return _Source(sorted(shapes), lambda key: shapes[key][:2], read)
