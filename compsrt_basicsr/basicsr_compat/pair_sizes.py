"""The images of a data set: which files they are, whether they decode, and whether their sizes fit the scale."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from basicsr.utils.file_client import LmdbBackend
from PIL import Image

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

SIDES = ('gt', 'lq')
Size = tuple[int, int]  # height and width in pixels


class ImageFiles:
    """The files of a data set of BasicSR, whatever its type, as far as its `paths` name them.

    Args:
        dataset: The data set.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._stores: dict[str, LmdbBackend] = {}

    def names(self, index: int) -> dict[str, str]:
        """Returns the files, or LMDB keys, of an item by side, `gt` and `lq`; empty where they are not known."""
        paths = getattr(self.dataset, 'paths', None)
        if not isinstance(paths, Sequence) or not -len(paths) <= index < len(paths):
            return {}
        item = paths[index]
        if isinstance(item, Mapping):
            return {side: item[f'{side}_path'] for side in SIDES if isinstance(item.get(f'{side}_path'), str)}
        return {'lq' if hasattr(self.dataset, 'lq_folder') else 'gt': item} if isinstance(item, str) else {}

    def shown(self, side: str, name: str) -> str:
        """Returns the name of an image for a message, with its folder unless the name holds it."""
        folder = self._folder(side)
        return f'`{name}`' if os.path.isabs(name) or name.startswith(folder) else f'`{name}` in `{folder}`'

    def size(self, side: str, name: str) -> Size | None:
        """Returns the size of an image, from its header where Pillow knows the format; None if it does not decode.

        Raises:
            OSError: If a file cannot be read.
        """
        source = io.BytesIO(self._read(side, name)) if self._folder(side).endswith('.lmdb') else name
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            try:
                with Image.open(source) as image:
                    return image.height, image.width
            except Exception:  # of any kind: the file may hold anything, and OpenCV decides
                return self.decoded_size(side, name)

    def decoded_size(self, side: str, name: str) -> Size | None:
        """Returns the size of an image as OpenCV decodes it, or None.

        Raises:
            OSError: If a file cannot be read.
        """
        data = np.frombuffer(self._read(side, name), np.uint8)
        try:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        except cv2.error as error:
            if is_out_of_memory(error):
                raise
            return None
        return None if image is None else (image.shape[0], image.shape[1])

    def _folder(self, side: str) -> str:
        return str(getattr(self.dataset, f'{side}_folder', None) or self.dataset.opt.get(f'dataroot_{side}', ''))

    def _read(self, side: str, name: str) -> bytes:
        folder = self._folder(side)
        if not folder.endswith('.lmdb'):
            with open(name, 'rb') as stream:
                return stream.read()
        if folder not in self._stores:
            self._stores[folder] = LmdbBackend(folder)
        return self._stores[folder].get(name, 'default')


def undecodable(dataset: Any, index: int) -> str | None:
    """Returns a name for an image of this item that OpenCV cannot decode, or None."""
    files = ImageFiles(dataset)
    for side, name in files.names(index).items():
        if files.decoded_size(side, name) is None:
            return files.shown(side, name)
    return None


def checked_sizes(dataset: Any) -> Iterator[tuple[str, int, int]]:
    """Checks all images of a data set for validation: they exist, have a size, and pairs fit the scale.

    BasicSR crops a ground truth to `scale` times its LR image, however much that is.

    Args:
        dataset: A data set of BasicSR; `opt['scale']` is its scale, if it has one.

    Yields:
        Name, height and width of each result.

    Raises:
        CompSRTError: If an image cannot be read, or a pair does not fit.
    """
    files, scale = ImageFiles(dataset), dataset.opt.get('scale')
    for index in range(len(dataset)):
        names = files.names(index)
        sizes = {side: _size(files, side, name) for side, name in names.items()}
        if not isinstance(scale, int) or 'lq' not in sizes:
            continue
        if 'gt' in sizes and not fits(sizes['gt'], sizes['lq'], scale):
            # The header knows nothing of an orientation in the metadata, by which OpenCV turns an image.
            sizes = {side: files.decoded_size(side, name) or sizes[side] for side, name in names.items()}
            if not fits(sizes['gt'], sizes['lq'], scale):
                pair = ' and '.join(files.shown(side, names[side]) for side in SIDES)
                text = misfit(sizes['gt'], sizes['lq'], scale)
                raise CompSRTError(f'The data set `{dataset.opt.get("name")}`: the pair {pair}: {text}')
        height, width = sizes['lq']
        yield os.path.basename(names['lq']), height * scale, width * scale


def fits(gt: Size, lq: Size, scale: int) -> bool:
    """Tells whether a ground truth is `scale` times as large as an LR image, or less than `scale` pixels larger."""
    return all(0 <= ours - scale * theirs < scale for ours, theirs in zip(gt, lq))


def misfit(gt: Size, lq: Size, scale: int) -> str:
    """Returns how the sizes of a pair differ from the scale, and what helps."""
    sizes = f'GT {gt[1]}x{gt[0]} is not {scale} times LR {lq[1]}x{lq[0]}'
    ratio = gt[0] // max(lq[0], 1)
    if lq[0] > gt[0] and lq[1] > gt[1]:
        return f'{sizes}, LR is the larger one: exchange `dataroot_gt` and `dataroot_lq`.'
    if ratio not in (0, scale) and fits(gt, lq, ratio):
        return f'{sizes} but {ratio} times: give the LR images of x{scale}, or a network and a `scale` of {ratio}.'
    if all(0 <= scale * theirs - ours < scale for ours, theirs in zip(gt, lq)):
        return f'{sizes} but less: crop GT to a multiple of {scale} and make LR again, as `compsrt data lr` does.'
    return f'{sizes}: check that both are of one image, or make LR again with `compsrt data lr`.'


def _size(files: ImageFiles, side: str, name: str) -> Size:
    opt = files.dataset.opt
    try:
        size = files.size(side, name)
    except OSError as error:
        listed = opt.get('meta_info_file') or opt.get('meta_info')
        place = f', listed in `{listed}`,' if listed else ''
        raise CompSRTError(
            f'The data set `{opt.get("name")}`: the image `{name}`{place} cannot be read: {error.strerror}.'
        ) from error
    if size is None:
        raise CompSRTError(
            f'The data set `{opt.get("name")}`: {files.shown(side, name)} cannot be decoded as an image: '
            'replace or remove it, and try again.'
        )
    return size
