"""The description of an image's colours: profiles, chunks of PNG files, tags of TIFF files."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path

from PIL.ImageFile import ImageFile as OpenedImage
from PIL.TiffImagePlugin import TiffImageFile

from compsrt_basicsr.data.without_metadata import PNG_COLOUR, is_sound_chunk, png_chunks

_LARGEST_PROFILE = 2**26  # bytes
_TIFF_ICC = 34675
TIFF_TAGS = {301: 'TransferFunction', 318: 'WhitePoint', 319: 'PrimaryChromaticities'}
_SRGB = {  # what PNG chunks say of sRGB images: PNG specification, sRGB and cICP
    b'gAMA': (45455).to_bytes(4, 'big'),
    b'cHRM': b''.join(n.to_bytes(4, 'big') for n in (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
    b'cICP': bytes([1, 13, 0, 1]),
}


@dataclass(frozen=True)
class Colour:
    """What a file says of its colours.

    Attributes:
        icc: colour profile.
        chunks: content of PNG chunks by name, without iCCP.
        tags: numbers of TIFF tags; a rational number is two.
        damaged: what could not be read, as objects of a sentence.
    """

    icc: bytes | None = None
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    tags: dict[int, tuple[int, ...]] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    def only_in_chunks(self) -> list[str]:
        """Returns the names of PNG chunks that other files would need to show the same colours, apart from `icc`.

        Other formats take an image without a description for sRGB. cICP precedes a profile, a profile sRGB, and that
        gAMA and cHRM.
        """
        if b'cICP' in self.chunks:
            deciding: tuple[bytes, ...] = (b'cICP',)
        else:
            deciding = () if self.icc or b'sRGB' in self.chunks else (b'gAMA', b'cHRM')
        differing = [name for name in deciding if self.chunks.get(name, _SRGB[name]) != _SRGB[name]]
        return [name.decode() for name in (*differing, *(n for n in (b'mDCV', b'cLLI') if n in self.chunks))]


def read_colour(image: OpenedImage, path: Path) -> Colour:
    """Reads what a file says of its colours.

    Args:
        image: the opened image.
        path: its file.
    """
    if image.format == 'PNG':
        return _of_png(path)
    if image.format in ('BMP', 'DIB'):
        return _of_bmp(path)
    tags = _tiff_tags(image) if isinstance(image, TiffImageFile) else {}
    icc = image.info.get('icc_profile')
    if icc is not None and not isinstance(icc, bytes):
        return Colour(tags=tags, damaged=('its colour profile, which is damaged in the original',))
    return Colour(icc or None, tags=tags)


def _of_png(path: Path) -> Colour:
    chunks: dict[bytes, bytes] = {}
    damaged = []
    with path.open('rb') as stream:
        for name, content, checksum in png_chunks(stream, until=b'IDAT'):
            if name not in PNG_COLOUR and name != b'iCCP':
                continue
            if not is_sound_chunk(name, content, checksum):
                damaged.append(f'its {name.decode()} chunk, which is damaged in the original')
            else:
                chunks.setdefault(name, content)
    packed = chunks.pop(b'iCCP', None)
    icc = None if packed is None else _unpacked_profile(packed)
    if packed is not None and icc is None:
        damaged.append('its colour profile, which is damaged in the original')
    return Colour(icc, chunks, damaged=tuple(damaged))


def _unpacked_profile(content: bytes) -> bytes | None:
    _, _, packed = content.partition(b'\0')
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(packed[1:], _LARGEST_PROFILE)
    except zlib.error:
        return None
    return profile if packed[:1] == b'\0' and unpacker.eof and profile else None


def _of_bmp(path: Path) -> Colour:
    """Reads the colour space of a header of version 4 or 5."""
    with path.open('rb') as stream:
        head = stream.read(14 + 124)
        size, kind = int.from_bytes(head[14:18], 'little'), head[70:74][::-1]
        if size < 108 or kind in (b'sRGB', b'Win '):
            return Colour()
        if size >= 124 and kind == b'MBED':
            start, length = (int.from_bytes(head[at : at + 4], 'little') for at in (126, 130))
            stream.seek(14 + start)
            icc = stream.read(min(length, _LARGEST_PROFILE))
            if icc and len(icc) == length:
                return Colour(icc)
            return Colour(damaged=('its colour profile, which is damaged in the original',))
    if kind == b'LINK':
        return Colour(damaged=('its colour profile, which is in another file',))
    if kind == bytes(4) and any(head[74:122]):
        return Colour(damaged=('the primaries and gamma of its header',))
    return Colour()


def _tiff_tags(image: TiffImageFile) -> dict[int, tuple[int, ...]]:
    """Returns the colour tags that can be written again as they are."""
    found: dict[int, tuple[int, ...]] = {}
    for tag, length in ((318, 2), (319, 6)):
        values = image.tag_v2.get(tag)
        if isinstance(values, tuple) and len(values) == length:
            pairs = [(getattr(value, 'numerator', -1), getattr(value, 'denominator', 0)) for value in values]
            numbers = tuple(int(number) for pair in pairs for number in pair)
            if all(0 <= number < 2**32 for number in numbers):
                found[tag] = numbers
    curve = image.tag_v2.get(301)
    if isinstance(curve, tuple) and all(isinstance(value, int) and 0 <= value < 2**16 for value in curve):
        found[301] = curve
    return found
