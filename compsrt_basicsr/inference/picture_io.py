"""Reading pictures with all that enlarging must keep, and writing them so that no half-written file is seen."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from compsrt_basicsr.data.pictures import PictureError, decoding
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.io_16bit import decode_deep, write_png, write_tiff
from compsrt_basicsr.utils.atomic_write import atomic_path

_ORIENTATION = ExifTags.Base.Orientation
_BITS, _PHOTOMETRIC, _PLANAR, _EXTRA_SAMPLES = 258, 262, 284, 338  # TIFF tags
_TURNED = {  # EXIF orientation: what makes the stored picture upright
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
        name: Pillow's.
        extension: usual end of the file's name.
        alpha, deep: whether an alpha channel, and 16 bits per channel, fit in.
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
class Picture:
    """A picture and what its file says of it.

    Attributes:
        values: (H, W, channels) uint8 or uint16, upright; 1 channel: grey, 2: grey and alpha, 3: RGB, 4: RGB, alpha.
        format: a key of `FORMATS`.
        icc: colour profile.
        exif: EXIF data without orientation, from its byte-order mark on.
        lossless: of a WebP file, whether it was stored without loss.
    """

    values: np.ndarray
    format: str
    icc: bytes | None = None
    exif: bytes | None = None
    lossless: bool = False


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width from the header, before a turn by EXIF.

    Raises:
        PictureError: it is of no kind that can be enlarged.
        CompSRTError: there is no such file.
    """
    return _with_image(path, lambda image: (image.height, image.width))


def read_picture(path: Path) -> Picture:
    """Reads a picture completely and turns it upright.

    Palettes become RGB, 1 bit becomes grey, transparency of any kind an alpha channel.

    Raises:
        PictureError: the file is damaged or cut short, holds several pictures, or a kind of colour other than grey and
            RGB.
        CompSRTError: there is no such file.
    """
    return _with_image(path, lambda image: _read(image, path))


def _with_image(path: Path, use: Callable[[Image.Image], object]):
    with decoding(path):
        if not path.exists():
            raise CompSRTError(f'`{path}` does not exist; check the path.')
        with Image.open(path) as image:
            _check_kind(image, path)
            return use(image)


def _check_kind(image: Image.Image, path: Path) -> None:
    """Refuses what cannot be kept; reads the header only."""
    if image.format not in _KEYS:
        raise PictureError(path, f'is a {image.format} file, not PNG, JPEG, WebP, TIFF or BMP')
    if getattr(image, 'n_frames', 1) > 1 and image.format != 'MPO':  # MPO: a photograph with its preview
        raise PictureError(path, 'holds several pictures')
    bits = _bits(image)
    if bits > 16 or image.mode in ('I', 'F'):
        raise PictureError(path, 'has more than 16 bits per channel, or floating-point values')
    if image.mode not in _MODES and image.mode != 'P' and not image.mode.startswith('I;16'):
        raise PictureError(path, f'has the colour model {image.mode}, not grey or RGB')
    if bits > 8 and image.format == 'TIFF' and not _is_plain_tiff(image):
        raise PictureError(
            path,
            'stores more than 8 bits in a rare way (not 16, separate planes, white as zero, grey with alpha, alpha '
            'multiplied in)',
        )
    if bits > 8 and 'transparency' in image.info:
        raise PictureError(path, 'marks one colour of 16 bits as transparent instead of having an alpha channel')


def _bits(image: Image.Image) -> int:
    """Bits per channel of the file; Pillow's mode hides it."""
    if image.format == 'TIFF':
        return max(np.atleast_1d(image.tag_v2.get(_BITS, 1)))
    if image.format != 'PNG':
        return 8
    return 16 if ';16' in _raw_mode(image) or image.mode.startswith('I') else 8


def _raw_mode(image: Image.Image) -> str:
    """How the file stores a pixel, such as 'RGB;16B'; known until the picture is decoded."""
    return str(image.tile[0][3]) if image.tile else ''


def _is_plain_tiff(image: Image.Image) -> bool:
    """Whether a deep TIFF is of the kind that `decode_deep` understands."""
    tags = image.tag_v2
    bits = np.atleast_1d(tags.get(_BITS, 1))
    premultiplied = tags.get(_EXTRA_SAMPLES, (0,))[0] == 1
    is_usual = tags.get(_PLANAR, 1) == 1 and tags.get(_PHOTOMETRIC, 1) in (1, 2)
    return is_usual and set(bits) == {16} and len(bits) != 2 and not premultiplied


def _read(image: Image.Image, path: Path) -> Picture:
    key = _KEYS[image.format]
    lossless = key == 'webp' and _is_lossless_webp(path)
    icc = image.info.get('icc_profile')
    if _bits(image) > 8:
        has_grey_alpha = 'LA;16' in _raw_mode(image)  # Pillow calls it RGBA, and forgets it when it decodes
        orientation = image.getexif().get(_ORIENTATION, 1)
        image.load()  # Pillow is strict about missing data, the other decoder fills it with black
        values = decode_deep(path.read_bytes())
        if has_grey_alpha:
            values = values[:, :, [0, 3]]
        if key != 'tiff':  # those are decoded upright
            values = _TURNED.get(orientation, lambda x: x)(values)
        upright = image
    else:
        upright = ImageOps.exif_transpose(image)  # decodes
        values = np.array(upright.convert(_target_mode(upright)))
    values = np.ascontiguousarray(values if values.ndim == 3 else values[:, :, None])
    return Picture(values, key, icc, _exif(upright) if key in ('png', 'jpeg', 'webp') else None, lossless)


def _target_mode(image: Image.Image) -> str:
    target = 'RGB' if image.mode == 'P' else _MODES[image.mode]
    return target.removesuffix('A') + 'A' if 'transparency' in image.info else target


def _exif(image: Image.Image) -> bytes | None:
    """EXIF without the orientation, which has been applied."""
    exif = image.getexif()
    exif.pop(_ORIENTATION, None)
    return exif.tobytes().removeprefix(b'Exif\0\0') if len(exif) else None


def _is_lossless_webp(path: Path) -> bool:
    """Whether the RIFF chunk that holds the pixels is VP8L."""
    with path.open('rb') as stream:
        stream.seek(12)
        while len(head := stream.read(8)) == 8:
            if head[:4] in (b'VP8 ', b'VP8L'):
                return head[:4] == b'VP8L'
            size = int.from_bytes(head[4:], 'little')
            stream.seek(size + size % 2, os.SEEK_CUR)
    return False


def format_fault(picture: Picture, key: str, height: int, width: int) -> str | None:
    """Why a picture of this kind, enlarged to (height, width), does not fit into a file format; None if it does."""
    kind = FORMATS[key]
    if picture.values.dtype == np.uint16 and not kind.deep:
        return f'has 16 bits per channel, which {kind.name} files cannot hold: give --format png'
    if picture.values.shape[2] in (2, 4) and not kind.alpha:
        return f'has an alpha channel, which {kind.name} files cannot hold: give --format png'
    if max(height, width) > kind.longest:
        return f'would become {width}x{height}, and {kind.name} files end at {kind.longest} a side: give --format png'
    return None


def write_picture(path: Path, picture: Picture, replace: bool = False) -> None:
    """Writes a picture under a hidden name beside `path`, then moves it there.

    Raises:
        FileExistsError: `path` exists and `replace` is false.
        OSError: the disk is full, or the folder cannot be written to; nothing is left behind.
        ValueError: the format cannot hold so large a file.
    """
    with atomic_path(path) as temporary:
        with temporary.open('wb') as stream:
            _encode(stream, picture)
        if not replace and path.exists():
            raise FileExistsError(path)


def _encode(stream: BinaryIO, picture: Picture) -> None:
    kind = FORMATS[picture.format]
    if picture.values.dtype == np.uint16:
        if picture.format == 'png':
            write_png(stream, picture.values, picture.icc, picture.exif)
        else:
            write_tiff(stream, picture.values, picture.icc)
        return
    options = dict(kind.options)
    if picture.lossless:
        options['lossless'] = True
    if picture.icc:
        options['icc_profile'] = picture.icc
    if picture.exif and picture.format != 'tiff' and picture.format != 'bmp':
        options['exif'] = b'Exif\0\0' + picture.exif
    values = picture.values if picture.values.shape[2] > 1 else picture.values[:, :, 0]
    Image.fromarray(values).save(stream, kind.name, **options)
