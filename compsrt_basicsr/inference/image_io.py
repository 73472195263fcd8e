"""Read images with everything that upscaling must keep, and write them atomically."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.ImageFile import ImageFile as OpenedImage
from PIL.TiffImagePlugin import TiffImageFile

from compsrt_basicsr.data.images import ImageError, decoding
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.io_16bit import decode_16bit, write_png, write_tiff
from compsrt_basicsr.utils.atomic_write import atomic_path

_ORIENTATION = ExifTags.Base.Orientation
_BITS, _PHOTOMETRIC, _PLANAR, _EXTRA_SAMPLES = 258, 262, 284, 338  # TIFF tags
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # by EXIF orientation
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}
_MODES = {'1': 'L', 'L': 'L', 'LA': 'LA', 'La': 'LA', 'RGB': 'RGB', 'RGBA': 'RGBA', 'RGBX': 'RGB', 'RGBa': 'RGBA',
          'PA': 'RGBA', 'YCbCr': 'RGB'}  # fmt: skip


@dataclass(frozen=True)
class FileFormat:
    """What a file format can hold.

    Attributes:
        name: Pillow's name of it.
        extension: usual end of the file's name.
        alpha: whether it can hold an alpha channel.
        deep: whether it can hold 16 bits per channel.
        longest: largest side in pixels.
        options: of Pillow's `save`.
    """

    name: str
    extension: str
    alpha: bool
    deep: bool
    longest: int
    options: dict[str, object]


FORMATS = {
    'png': FileFormat('PNG', '.png', True, True, 2**31 - 1, {}),
    'jpeg': FileFormat('JPEG', '.jpg', False, False, 65500, {'quality': 95, 'subsampling': 0}),
    'webp': FileFormat('WEBP', '.webp', True, False, 16383, {'quality': 95, 'exact': True}),
    'tiff': FileFormat('TIFF', '.tif', True, True, 2**31 - 1, {'compression': 'tiff_adobe_deflate'}),
    'bmp': FileFormat('BMP', '.bmp', False, False, 2**31 - 1, {}),
}
_KEYS = {'PNG': 'png', 'JPEG': 'jpeg', 'MPO': 'jpeg', 'WEBP': 'webp', 'TIFF': 'tiff', 'BMP': 'bmp', 'DIB': 'bmp'}


@dataclass(frozen=True)
class ImageFile:
    """The content of an image file.

    Attributes:
        values: (H, W, channels) uint8 or uint16, upright; 1 channel: grey, 2: grey and alpha, 3: RGB, 4: RGB, alpha.
        format: a key of `FORMATS`.
        icc: colour profile.
        exif: EXIF data without orientation, from its byte-order mark on.
        lossless: of a WebP file, whether its compression is lossless.
    """

    values: np.ndarray
    format: str
    icc: bytes | None = None
    exif: bytes | None = None
    lossless: bool = False


def image_size(path: Path) -> tuple[int, int]:
    """Reads height and width from the header, before EXIF orientation is applied.

    Raises:
        ImageError: if images of this kind cannot be upscaled.
        CompSRTError: if the file does not exist.
    """
    with _opened(path) as image:
        return image.height, image.width


def read_image_file(path: Path) -> ImageFile:
    """Reads an image completely and turns it upright.

    Palettes become RGB, 1 bit becomes grey, transparency of any kind becomes an alpha channel.

    Raises:
        ImageError: if the file is damaged or truncated, holds several images, or its colours are neither grey nor RGB.
        CompSRTError: if the file does not exist.
    """
    with _opened(path) as image:
        return _read(image, path)


@contextmanager
def _opened(path: Path) -> Iterator[OpenedImage]:
    with decoding(path):
        if not path.exists():
            raise CompSRTError(f'`{path}` does not exist; check the path.')
        with Image.open(path) as image:
            _check_kind(image, path)
            yield image


def _check_kind(image: OpenedImage, path: Path) -> None:
    """Refuses what cannot be kept; reads the header only."""
    if image.format not in _KEYS:
        raise ImageError(path, f'is a {image.format} file, not PNG, JPEG, WebP, TIFF or BMP')
    if getattr(image, 'n_frames', 1) > 1 and image.format != 'MPO':  # MPO: a photograph with its preview
        raise ImageError(path, 'holds several images')
    bits = _bits(image)
    if bits > 16 or image.mode in ('I', 'F'):
        raise ImageError(path, 'has more than 16 bits per channel, or floating-point values')
    if image.mode not in _MODES and image.mode != 'P' and not image.mode.startswith('I;16'):
        raise ImageError(path, f'has the colour model {image.mode}, not grey or RGB')
    if bits > 8 and isinstance(image, TiffImageFile) and not _is_plain_tiff(image):
        raise ImageError(
            path,
            'stores more than 8 bits in a rare way (not 16, separate planes, white as zero, grey with alpha, alpha '
            'multiplied in)',
        )
    if bits > 8 and 'transparency' in image.info:
        raise ImageError(path, 'marks one colour of 16 bits as transparent instead of having an alpha channel')


def _bits(image: OpenedImage) -> int:
    """Returns the bits per channel of the file, which Pillow's mode does not show."""
    if isinstance(image, TiffImageFile):
        return int(np.max(image.tag_v2.get(_BITS, 1)))
    if image.format != 'PNG':
        return 8
    return 16 if ';16' in _raw_mode(image) or image.mode.startswith('I') else 8


def _raw_mode(image: OpenedImage) -> str:
    """Returns how the file stores a pixel, such as 'RGB;16B'; known until the image is decoded."""
    return str(image.tile[0][3]) if image.tile else ''


def _is_plain_tiff(image: TiffImageFile) -> bool:
    """Tells whether `decode_16bit` reads this kind of 16-bit TIFF."""
    tags = image.tag_v2
    bits = np.atleast_1d(tags.get(_BITS, 1))
    premultiplied = tags.get(_EXTRA_SAMPLES, (0,))[0] == 1
    is_usual = tags.get(_PLANAR, 1) == 1 and tags.get(_PHOTOMETRIC, 1) in (1, 2)
    return is_usual and set(bits) == {16} and len(bits) != 2 and not premultiplied


def _read(image: OpenedImage, path: Path) -> ImageFile:
    key = _KEYS[str(image.format)]
    lossless = key == 'webp' and _is_lossless_webp(path)
    icc = image.info.get('icc_profile')
    if _bits(image) > 8:
        has_grey_alpha = 'LA;16' in _raw_mode(image)  # Pillow calls it RGBA, and forgets it when it decodes
        orientation = image.getexif().get(_ORIENTATION, 1)
        image.load()  # Pillow refuses incomplete data, OpenCV fills it with black
        values = decode_16bit(path.read_bytes())
        if has_grey_alpha:
            values = values[:, :, [0, 3]]
        if key != 'tiff':  # OpenCV turns those itself
            values = _UPRIGHT.get(orientation, lambda x: x)(values)
        upright: Image.Image = image
    else:
        upright = ImageOps.exif_transpose(image)  # decodes
        values = np.array(upright.convert(_target_mode(upright)))
    values = np.ascontiguousarray(values if values.ndim == 3 else values[:, :, None])
    return ImageFile(values, key, icc, _exif(upright) if key in ('png', 'jpeg', 'webp') else None, lossless)


def _target_mode(image: Image.Image) -> str:
    target = 'RGB' if image.mode == 'P' else _MODES[image.mode]
    return target.removesuffix('A') + 'A' if 'transparency' in image.info else target


def _exif(image: Image.Image) -> bytes | None:
    """Returns EXIF data without the orientation, which has been applied."""
    exif = image.getexif()
    exif.pop(_ORIENTATION, None)
    return exif.tobytes().removeprefix(b'Exif\0\0') if len(exif) else None


def _is_lossless_webp(path: Path) -> bool:
    """Tells whether the RIFF chunk that holds the pixels is VP8L."""
    with path.open('rb') as stream:
        stream.seek(12)
        while len(head := stream.read(8)) == 8:
            if head[:4] in (b'VP8 ', b'VP8L'):
                return head[:4] == b'VP8L'
            size = int.from_bytes(head[4:], 'little')
            stream.seek(size + size % 2, os.SEEK_CUR)
    return False


def format_error(image: ImageFile, key: str, height: int, width: int) -> str | None:
    """Returns why an image of this kind, upscaled to (height, width), does not fit a file format; None if it does."""
    kind = FORMATS[key]
    if image.values.dtype == np.uint16 and not kind.deep:
        return f'has 16 bits per channel, which {kind.name} files cannot hold: give --format png'
    if image.values.shape[2] in (2, 4) and not kind.alpha:
        return f'has an alpha channel, which {kind.name} files cannot hold: give --format png'
    if max(height, width) > kind.longest:
        return f'would become {width}x{height}, and {kind.name} files end at {kind.longest} a side: give --format png'
    return None


def write_image_file(path: Path, image: ImageFile, replace: bool = False) -> None:
    """Writes an image atomically.

    Raises:
        FileExistsError: if `path` exists and `replace` is false.
        OSError: if the disk is full, or the folder cannot be written to; nothing is left behind.
        ValueError: if the format cannot hold so large a file.
    """
    with atomic_path(path, replace=replace) as temporary, temporary.open('wb') as stream:
        _encode(stream, image)


def _encode(stream: BinaryIO, image: ImageFile) -> None:
    kind = FORMATS[image.format]
    if image.values.dtype == np.uint16:
        if image.format == 'png':
            write_png(stream, image.values, image.icc, image.exif)
        else:
            write_tiff(stream, image.values, image.icc)
        return
    options = dict(kind.options)
    if image.lossless:
        options['lossless'] = True
    if image.icc:
        options['icc_profile'] = image.icc
    if image.exif and image.format != 'tiff' and image.format != 'bmp':
        options['exif'] = b'Exif\0\0' + image.exif
    values = image.values if image.values.shape[2] > 1 else image.values[:, :, 0]
    Image.fromarray(values).save(stream, kind.name, **options)
