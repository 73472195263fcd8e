"""Read and write what Pillow does not: PNG and TIFF files with 16 bits per channel, and their colour marks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import BinaryIO

import numpy as np

_PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels: colour type, PNG specification 11.2.2
_PNG_HEADER = 33  # bytes of signature and IHDR
_PNG_ROWS = 64  # rows compressed at a time
_SHORT, _RATIONAL = 3, 5  # TIFF types
_TRANSFER_FUNCTION = 301
_TIFF_STRIP = 2**20  # bytes of a strip before compression, approximately


def decode_16bit(data: bytes) -> np.ndarray:
    """Decodes a 16-bit file.

    Returns:
        uint16 (H, W, channels): grey, RGB, or RGB and alpha. A grey PNG with alpha becomes RGB and alpha.

    Raises:
        ValueError: if it is damaged or has other than 16 bits per channel.
    """
    import cv2  # for few images: it takes a while to import

    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise ValueError('its 16-bit data cannot be decoded')
    if decoded.ndim == 2:
        return decoded[:, :, None]
    return decoded[:, :, [2, 1, 0, 3][: decoded.shape[2]]]


def write_png(
    stream: BinaryIO,
    values: np.ndarray,
    icc: bytes | None,
    exif: bytes | None,
    chunks: Mapping[bytes, bytes] = MappingProxyType({}),
) -> None:
    """Writes a 16-bit PNG, each row as its difference to the one above (filter type 2).

    Only a few rows are in memory in their compressed form at a time, beside `values`.

    Args:
        stream: destination.
        values: uint16 (H, W, 1 to 4): grey, grey and alpha, RGB, RGB and alpha.
        icc: colour profile.
        exif: EXIF data, from its byte-order mark on.
        chunks: content of further chunks by name.
    """
    height, width, channels = values.shape
    stream.write(b'\x89PNG\r\n\x1a\n')
    _chunk(stream, b'IHDR', struct.pack('>IIBBBBB', width, height, 16, _PNG_COLOUR_TYPES[channels], 0, 0, 0))
    for name, content in chunks.items():
        _chunk(stream, name, content)
    if icc:
        _chunk(stream, b'iCCP', b'ICC profile\0\0' + zlib.compress(icc))
    if exif:
        _chunk(stream, b'eXIf', exif)
    packer = zlib.compressobj(6)
    for block in _filtered_rows(values):
        packed = packer.compress(block)
        if packed:
            _chunk(stream, b'IDAT', packed)
    _chunk(stream, b'IDAT', packer.flush())
    _chunk(stream, b'IEND', b'')


def insert_png_chunks(stream: BinaryIO, chunks: Mapping[bytes, bytes]) -> None:
    """Inserts chunks into a complete PNG file, behind its header; Pillow writes only those that it knows.

    Args:
        stream: readable, writable and seekable.
        chunks: content by name.
    """
    stream.seek(_PNG_HEADER)
    rest = stream.read()
    stream.seek(_PNG_HEADER)
    for name, content in chunks.items():
        _chunk(stream, name, content)
    stream.write(rest)


def _filtered_rows(values: np.ndarray) -> Iterator[bytes]:
    above = np.zeros((1, values.shape[1] * values.shape[2] * 2), np.uint8)
    for top in range(0, len(values), _PNG_ROWS):
        rows = np.ascontiguousarray(values[top : top + _PNG_ROWS].astype('>u2')).view(np.uint8)
        rows = rows.reshape(len(rows), -1)
        difference = rows - np.concatenate([above, rows[:-1]])  # modulo 256, as the format requires
        yield np.insert(difference, 0, 2, axis=1).tobytes()
        above = rows[-1:]


def _chunk(stream: BinaryIO, kind: bytes, data: bytes) -> None:
    stream.write(struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data)))


def write_tiff(
    stream: BinaryIO,
    values: np.ndarray,
    icc: bytes | None,
    tags: Mapping[int, tuple[int, ...]] = MappingProxyType({}),
) -> None:
    """Writes a TIFF of 8 or 16 bits: strips compressed by Deflate after horizontal differencing (predictor 2).

    Args:
        stream: seekable destination.
        values: uint8 or uint16, otherwise as in `write_png`.
        icc: colour profile.
        tags: numbers of WhitePoint and PrimaryChromaticities (two for each rational) and TransferFunction.

    Raises:
        ValueError: if the file would exceed the 4 GB of the TIFF format.
    """
    import tifffile

    channels = values.shape[2]
    try:
        tifffile.imwrite(
            stream,
            values if channels > 1 else values[:, :, 0],
            photometric='rgb' if channels > 2 else 'minisblack',
            planarconfig='contig' if channels > 1 else None,
            extrasamples=['unassalpha'] if channels in (2, 4) else None,
            compression='adobe_deflate',
            predictor=True,
            rowsperstrip=max(1, _TIFF_STRIP // values[0].nbytes),
            iccprofile=icc,
            extratags=[_extra_tag(tag, numbers) for tag, numbers in tags.items()],
            byteorder='<',
            metadata=None,
            software=False,
            maxworkers=1,  # more would hold hundreds of strips in memory
        )
    except struct.error as error:  # an offset that does not fit into 32 bits
        raise ValueError('the file would exceed the 4 GB of the TIFF format') from error


def _extra_tag(tag: int, numbers: tuple[int, ...]) -> tuple[int, int, int, tuple[int, ...], bool]:
    is_short = tag == _TRANSFER_FUNCTION
    return tag, _SHORT if is_short else _RATIONAL, len(numbers) if is_short else len(numbers) // 2, numbers, True
