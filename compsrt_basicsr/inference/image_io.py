"""Read images with everything that upscaling must keep, and write them atomically."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile as OpenedImage
from PIL.TiffImagePlugin import TiffImageFile

from compsrt_basicsr.data.image_kind import band_error, bits_per_channel, is_plain_16bit_tiff, raw_mode
from compsrt_basicsr.data.images import ImageError, decoded, orientation, upright
from compsrt_basicsr.inference.colour import TIFF_TAGS, Colour, read_colour
from compsrt_basicsr.inference.exif import read_exif
from compsrt_basicsr.inference.io_16bit import decode_16bit, insert_png_chunks, write_png, write_tiff
from compsrt_basicsr.utils.atomic_write import atomic_path

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
    'tiff': FileFormat('TIFF', '.tif', True, True, 2**31 - 1, {}),
    'bmp': FileFormat('BMP', '.bmp', False, False, 2**31 - 1, {}),
}
_LARGEST_FOR_PILLOW = 2**20  # bytes of a PNG file's profile; with a larger one Pillow refuses the file
_LONGEST_JPEG_ICC = 255 * 65519  # bytes
_LONGEST_JPEG_EXIF = 65527  # bytes, after the six that announce it
_TRANSFER_FUNCTION = 301
_KEYS = {'PNG': 'png', 'JPEG': 'jpeg', 'MPO': 'jpeg', 'WEBP': 'webp', 'TIFF': 'tiff', 'BMP': 'bmp', 'DIB': 'bmp'}


@dataclass(frozen=True)
class ImageFile:
    """The content of an image file.

    Attributes:
        values: (H, W, channels) uint8 or uint16, upright; 1 channel: grey, 2: grey and alpha, 3: RGB, 4: RGB, alpha.
        format: a key of `FORMATS`.
        colour: what the file says of its colours.
        exif: EXIF data without orientation, from its byte-order mark on.
        lossless: of a WebP file, whether its compression is lossless.
        damaged: metadata that could not be read, as objects of a sentence.
    """

    values: np.ndarray
    format: str
    colour: Colour = field(default_factory=Colour)
    exif: bytes | None = None
    lossless: bool = False
    damaged: tuple[str, ...] = ()


def image_size(path: Path) -> tuple[int, int]:
    """Reads height and width from the header, before EXIF orientation is applied.

    Raises:
        ImageError: if images of this kind cannot be upscaled.
        CompSRTError: if the file does not exist.
    """

    def size(image: OpenedImage, is_whole: bool) -> tuple[int, int]:
        _check_kind(image, path)
        return image.height, image.width

    return decoded(path, size)


def read_image_file(path: Path) -> ImageFile:
    """Reads an image completely and turns it upright.

    Palettes become RGB, 1 bit becomes grey, transparency of any kind becomes an alpha channel.

    Raises:
        ImageError: if the file is damaged or truncated, holds several images, or its colours are neither grey nor RGB.
        CompSRTError: if the file does not exist.
    """
    return decoded(path, lambda image, is_whole: _read(image, path, is_whole))


def _check_kind(image: OpenedImage, path: Path) -> None:
    """Refuses what cannot be kept; reads the header only."""
    if image.format not in _KEYS:
        raise ImageError(path, f'is a {image.format} file, not PNG, JPEG, WebP, TIFF or BMP')
    if getattr(image, 'n_frames', 1) > 1 and image.format != 'MPO':  # MPO: a photograph with its preview
        raise ImageError(path, 'holds several images')
    bits = bits_per_channel(image)
    if bits > 16 or image.mode in ('I', 'F'):
        raise ImageError(path, 'has more than 16 bits per channel, or floating-point values')
    if reason := band_error(image):
        raise ImageError(path, reason)
    if image.mode not in _MODES and image.mode != 'P' and not image.mode.startswith('I;16'):
        raise ImageError(path, f'has the colour model {image.mode}, not grey or RGB')
    if bits > 8 and isinstance(image, TiffImageFile) and not is_plain_16bit_tiff(image):
        raise ImageError(
            path,
            'stores more than 8 bits in a rare way (not 16, separate planes, white as zero, grey with alpha, alpha '
            'multiplied in)',
        )
    if bits > 8 and 'transparency' in image.info:
        raise ImageError(path, 'marks one colour of 16 bits as transparent instead of having an alpha channel')


def _read(image: OpenedImage, path: Path, is_whole: bool) -> ImageFile:
    _check_kind(image, path)
    key = _KEYS[str(image.format)]
    colour = read_colour(image, path)
    has_grey_alpha = 'LA;16' in raw_mode(image)  # Pillow calls it RGBA, and forgets it when it decodes
    is_deep = bits_per_channel(image) > 8
    image.load()  # Pillow refuses incomplete data, OpenCV fills it with black
    if is_deep:
        values = decode_16bit(path.read_bytes())
        if has_grey_alpha:
            values = values[:, :, [0, 3]]
    else:
        values = np.array(image.convert(_target_mode(image)))
    if key != 'tiff':  # Pillow and OpenCV turn those themselves
        values = upright(values, orientation(image))
    exif, left_out = read_exif(image) if key in ('png', 'jpeg', 'webp') else (None, None)
    damaged = [*colour.damaged, *([left_out] if left_out else [])]
    if not is_whole and not damaged and len(colour.icc or b'') <= _LARGEST_FOR_PILLOW:
        damaged = ['metadata that is damaged in the original']
    values = np.ascontiguousarray(values if values.ndim == 3 else values[:, :, None])
    return ImageFile(values, key, colour, exif, key == 'webp' and _is_lossless_webp(path), tuple(damaged))


def _target_mode(image: Image.Image) -> str:
    target = 'RGB' if image.mode == 'P' else _MODES[image.mode]
    return target.removesuffix('A') + 'A' if 'transparency' in image.info else target


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


def write_image_file(
    path: Path, image: ImageFile, replace: bool = False, written: Callable[[Path], None] = lambda file: None
) -> list[str]:
    """Writes an image atomically, with as much of its metadata as the format can hold.

    Args:
        path: the file.
        image: its content.
        replace: whether a file that exists is replaced.
        written: receives the complete file before it gets its name.

    Returns:
        What of the metadata is lost, as objects of a sentence.

    Raises:
        FileExistsError: if `path` exists and `replace` is false.
        OSError: if the disk is full, or the folder cannot be written to; nothing is left behind.
        ValueError: if the format cannot hold so large a file.
    """
    fitting, lost = _fit(image)
    with atomic_path(path, replace=replace) as temporary:
        with temporary.open('wb+') as stream:
            _encode(stream, fitting)
        written(temporary)
    return lost


def _fit(image: ImageFile) -> tuple[ImageFile, list[str]]:
    """Leaves out the metadata that the format cannot hold, and lists what is lost by it or was damaged before."""
    name = FORMATS[image.format].name
    icc, tags, exif = image.colour.icc, image.colour.tags, image.exif
    lost = list(image.damaged)
    if icc and (image.format == 'bmp' or (image.format == 'jpeg' and len(icc) > _LONGEST_JPEG_ICC)):
        lost.append(f'its colour profile, which does not fit into a {name} file')
        icc = None
    if exif and (image.format in ('tiff', 'bmp') or (image.format == 'jpeg' and len(exif) > _LONGEST_JPEG_EXIF)):
        lost.append(f'its EXIF data, which does not fit into a {name} file')
        exif = None
    if image.format != 'png' and (names := image.colour.only_in_chunks()):
        lost.append(f'its colour description ({", ".join(names)}), which only PNG files can hold')
    curve = tags.get(_TRANSFER_FUNCTION, ())
    if curve and len(curve) not in (levels := np.iinfo(image.values.dtype).max + 1, 3 * levels):
        lost.append('its TransferFunction, which is for other bits')
        tags = {tag: numbers for tag, numbers in tags.items() if tag != _TRANSFER_FUNCTION}
    if image.format != 'tiff' and tags and not icc:
        names = [TIFF_TAGS[tag] for tag in tags]
        lost.append(f'its colour description ({", ".join(names)}), which only TIFF files can hold')
    colour = Colour(icc, image.colour.chunks if image.format == 'png' else {}, tags if image.format == 'tiff' else {})
    return replace(image, colour=colour, exif=exif), lost


class _Destination:
    """A stream without a file descriptor: Pillow's C code writes to one without noticing that a disk is full."""

    def __init__(self, stream: BinaryIO) -> None:
        self.write, self.flush, self.seek, self.tell = stream.write, stream.flush, stream.seek, stream.tell


def _encode(stream: BinaryIO, image: ImageFile) -> None:
    kind = FORMATS[image.format]
    colour = image.colour
    if image.format == 'tiff':
        return write_tiff(stream, image.values, colour.icc, colour.tags)
    if image.format == 'png' and image.values.dtype == np.uint16:
        return write_png(stream, image.values, colour.icc, image.exif, colour.chunks)
    options = dict(kind.options)
    if image.lossless:
        options['lossless'] = True
    if colour.icc:
        options['icc_profile'] = colour.icc
    if image.exif:
        options['exif'] = b'Exif\0\0' + image.exif
    values = image.values if image.values.shape[2] > 1 else image.values[:, :, 0]
    Image.fromarray(values).save(cast(BinaryIO, _Destination(stream)), kind.name, **options)
    if colour.chunks:
        insert_png_chunks(stream, colour.chunks)
    return None
