"""Image files reduced to what their pixels need: damaged metadata does not make an image unusable."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
PNG_COLOUR = {b'cICP': 4, b'gAMA': 4, b'cHRM': 32, b'sRGB': 1, b'mDCV': 24, b'cLLI': 8}  # bytes of each chunk
_PNG_PIXELS = (b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND', b'acTL', b'fcTL', b'fdAT')
_TIFF_PIXELS = frozenset(
    (254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332,
     334, 338, 339, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532)
)  # fmt: skip
_SOI, _SOS = b'\xff\xd8', 0xDA


def without_metadata(data: bytes) -> bytes | None:
    """Returns an image file without metadata that cannot be read; None if there is nothing to leave out.

    EXIF data and colour stay where their form is right. What is damaged in another way than in its metadata stays
    damaged.
    """
    if data.startswith(PNG_SIGNATURE):
        return _png(data)
    if data.startswith(_SOI):
        return _jpeg(data)
    if data[:4] in (b'II*\0', b'MM\0*'):
        return _tiff(data)
    return None


def png_chunks(stream: BinaryIO, until: bytes = b'') -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yields name, content and checksum of each chunk of a PNG file, up to a damaged end or the chunk named `until`."""
    stream.seek(len(PNG_SIGNATURE))
    while len(head := stream.read(8)) == 8:
        length, name = int.from_bytes(head[:4], 'big'), head[4:]
        if name == until:
            return
        content, checksum = stream.read(length), stream.read(4)
        if len(checksum) < 4:
            stream.seek(-len(head + content + checksum), io.SEEK_CUR)
            return
        yield name, content, checksum


def is_sound_chunk(name: bytes, content: bytes, checksum: bytes) -> bool:
    """Tells whether a PNG chunk has its checksum and, if it describes colours, the right length."""
    return zlib.crc32(name + content) == int.from_bytes(checksum, 'big') and (
        name not in PNG_COLOUR or len(content) == PNG_COLOUR[name]
    )


def _png(data: bytes) -> bytes:
    stream = io.BytesIO(data)
    parts = [PNG_SIGNATURE]
    for name, content, checksum in png_chunks(stream):
        is_needed = name in _PNG_PIXELS
        is_known = name == b'eXIf' or name in PNG_COLOUR
        if is_needed or (is_known and is_sound_chunk(name, content, checksum)):
            parts += [len(content).to_bytes(4, 'big'), name, content, checksum]
    return b''.join([*parts, stream.read()])


def _jpeg(data: bytes) -> bytes | None:
    parts, at = [_SOI], 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == _SOS:
            return b''.join([*parts, data[at:]])
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
        if _is_kept(marker, data[at + 4 : end]):
            parts.append(data[at:end])
        at = end
    return None


def _is_kept(marker: int, content: bytes) -> bool:
    """Tells whether a JPEG segment is needed, or EXIF data or a colour profile of the right form."""
    if marker == 0xE0:
        return content.startswith(b'JFIF\0') and len(content) >= 14
    if marker == 0xE1:
        return content.startswith(b'Exif\0\0')
    if marker == 0xE2:
        return content.startswith(b'ICC_PROFILE\0') and len(content) > 14
    if marker == 0xEE:
        return content.startswith(b'Adobe') and len(content) >= 12
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def _tiff(data: bytes) -> bytes | None:
    """Replaces the first directory by one of the needed tags; no offset changes, and a cut file stays cut."""
    order = '<' if data[:2] == b'II' else '>'
    try:
        (at,) = struct.unpack_from(f'{order}I', data, 4)
        (number,) = struct.unpack_from(f'{order}H', data, at)
        end = at + 2 + 12 * number
        entries = [data[start : start + 12] for start in range(at + 2, end, 12)]
        following = struct.unpack_from('4s', data, end)[0]
    except struct.error:
        return None
    orientation = struct.pack(f'{order}HHI', 274, 3, 1)  # its only right form: one number of 16 bits
    kept = [
        entry
        for entry in entries
        if struct.unpack_from(f'{order}H', entry)[0] in _TIFF_PIXELS or entry.startswith(orientation)
    ]
    directory = struct.pack(f'{order}H', len(kept)) + b''.join(kept) + following
    return data[:at] + directory + data[at + len(directory) :]
