"""Read and write PNG and TIFF files with 16 bits per channel; Pillow supports them for grey images only."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

_PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels: colour type, PNG specification 11.2.2
_PNG_ROWS = 64  # rows compressed at a time
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


def write_png(stream: BinaryIO, values: np.ndarray, icc: bytes | None, exif: bytes | None) -> None:
    """Writes a 16-bit PNG, each row as its difference to the one above (filter type 2).

    Only a few rows are in memory in their compressed form at a time, beside `values`.

    Args:
        stream: destination.
        values: uint16 (H, W, 1 to 4): grey, grey and alpha, RGB, RGB and alpha.
        icc: colour profile.
        exif: EXIF data, from its byte-order mark on.
    """
    height, width, channels = values.shape
    stream.write(b'\x89PNG\r\n\x1a\n')
    _chunk(stream, b'IHDR', struct.pack('>IIBBBBB', width, height, 16, _PNG_COLOUR_TYPES[channels], 0, 0, 0))
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


def write_tiff(stream: BinaryIO, values: np.ndarray, icc: bytes | None) -> None:
    """Writes a 16-bit TIFF: strips compressed by Deflate after horizontal differencing (predictor 2).

    Args:
        stream: seekable destination.
        values: as in `write_png`.
        icc: colour profile.

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
            byteorder='<',
            metadata=None,
            software=False,
            maxworkers=1,  # more would hold hundreds of strips in memory
        )
    except struct.error as error:  # an offset that does not fit into 32 bits
        raise ValueError('the file would exceed the 4 GB of the TIFF format') from error
