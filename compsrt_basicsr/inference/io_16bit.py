"""PNG and TIFF files with 16 bits per channel, which Pillow reads and writes in grey only."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import cv2
import numpy as np

_PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels: colour type, PNG specification 11.2.2
_PNG_ROWS = 64  # rows compressed at a time
_TIFF_STRIP = 2**20  # bytes of a strip before compression, about
_TIFF_LARGEST = 2**32 - 1  # bytes; offsets have 32 bits
_SHORT, _LONG, _UNDEFINED = 3, 4, 7  # TIFF 6.0, section 2
_LETTERS = {_SHORT: 'H', _LONG: 'I', _UNDEFINED: 'B'}


def decode_deep(data: bytes) -> np.ndarray:
    """Decodes a 16-bit file.

    Returns:
        uint16 (H, W, channels): grey, RGB, or RGB and alpha. A grey PNG with alpha comes as RGB and alpha.

    Raises:
        ValueError: it is damaged or of another kind.
    """
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise ValueError('its 16-bit data cannot be decoded')
    if decoded.ndim == 2:
        return decoded[:, :, None]
    return decoded[:, :, [2, 1, 0, 3][: decoded.shape[2]]]


def write_png(stream: BinaryIO, values: np.ndarray, icc: bytes | None, exif: bytes | None) -> None:
    """Writes a 16-bit PNG, each row as the difference from the one above (filter type 2).

    Args:
        stream: where to.
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
        difference = rows - np.concatenate([above, rows[:-1]])  # modulo 256, as the format wants it
        yield np.insert(difference, 0, 2, axis=1).tobytes()
        above = rows[-1:]


def _chunk(stream: BinaryIO, kind: bytes, data: bytes) -> None:
    stream.write(struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data)))


def write_tiff(stream: BinaryIO, values: np.ndarray, icc: bytes | None) -> None:
    """Writes a 16-bit little-endian TIFF: strips compressed by Deflate after horizontal differencing (predictor 2).

    Args:
        stream: where to; seekable.
        values: as in `write_png`.
        icc: colour profile.

    Raises:
        ValueError: the file would pass 4 GB.
    """
    height, width, channels = values.shape
    strip_rows = max(1, _TIFF_STRIP // (2 * width * channels))
    stream.write(b'II*\0\0\0\0\0')
    offsets, sizes = [], []
    for top in range(0, height, strip_rows):
        rows = values[top : top + strip_rows].copy()
        rows[:, 1:] -= values[top : top + strip_rows, :-1]
        data = zlib.compress(rows.astype('<u2').tobytes())
        offsets.append(stream.tell())
        sizes.append(len(data))
        stream.write(data)
    entries = {
        256: (_LONG, [width]),
        257: (_LONG, [height]),
        258: (_SHORT, [16] * channels),
        259: (_SHORT, [8]),  # Deflate
        262: (_SHORT, [2 if channels > 2 else 1]),  # RGB, or black is zero
        273: (_LONG, offsets),
        277: (_SHORT, [channels]),
        278: (_LONG, [strip_rows]),
        279: (_LONG, sizes),
        284: (_SHORT, [1]),  # channels side by side
        317: (_SHORT, [2]),  # predictor
    }
    if channels in (2, 4):
        entries[338] = (_SHORT, [2])  # the last channel is alpha, not multiplied in
    if icc:
        entries[34675] = (_UNDEFINED, list(icc))
    _directory(stream, entries)


def _directory(stream: BinaryIO, entries: dict[int, tuple[int, list[int]]]) -> None:
    """Appends the image file directory and lets the header point to it."""
    start = stream.tell() + stream.tell() % 2
    beyond = start + 2 + 12 * len(entries) + 4  # where values longer than 4 bytes go
    directory, values = struct.pack('<H', len(entries)), b''
    for tag, (kind, numbers) in sorted(entries.items()):
        packed = struct.pack(f'<{len(numbers)}{_LETTERS[kind]}', *numbers)
        if len(packed) > 4:
            place = struct.pack('<I', min(beyond + len(values), _TIFF_LARGEST))
            values += packed + b'\0' * (len(packed) % 2)
        else:
            place = packed.ljust(4, b'\0')
        directory += struct.pack('<HHI', tag, kind, len(numbers)) + place
    if beyond + len(values) > _TIFF_LARGEST:
        raise ValueError('the file would pass the 4 GB of the TIFF format')
    stream.write(b'\0' * (start - stream.tell()) + directory + b'\0\0\0\0' + values)
    stream.seek(4)
    stream.write(struct.pack('<I', start))
