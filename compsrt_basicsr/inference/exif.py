"""EXIF data that can be written again."""

from __future__ import annotations

import warnings
from typing import Any

from PIL import ExifTags, Image

from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

_ORIENTATION = ExifTags.Base.Orientation
_POINTERS: dict[int, type[ExifTags.Base] | type[ExifTags.GPS]] = {  # to directories, with the names of their tags
    ExifTags.IFD.Exif: ExifTags.Base,
    ExifTags.IFD.GPSInfo: ExifTags.GPS,
}


def read_exif(image: Image.Image) -> tuple[bytes | None, str | None]:
    """Returns EXIF data without the orientation, which has been applied.

    Tags of wrong type or value are left out: they would make the whole unwritable.

    Args:
        image: loaded.

    Returns:
        EXIF data from its byte-order mark on, or None; and what had to be left out, as the object of a sentence.
    """
    if image.info.get('exif') is None and 'Raw profile type exif' not in image.info:
        return None, None
    with warnings.catch_warnings(record=True) as damages:
        warnings.simplefilter('always')
        try:
            exif = _fresh(image)
            exif.pop(_ORIENTATION, None)
            data = exif.tobytes() if len(exif) else None
            left_out = ['some tags'] if damages else []
        except Exception as error:  # on damaged data Pillow raises almost anything
            if is_out_of_memory(error):
                raise
            data, left_out = _writable(image)
    body = data.removeprefix(b'Exif\0\0') if data else None
    return body, f'EXIF data that is damaged in the original ({", ".join(left_out)})' if left_out else None


def _fresh(image: Image.Image) -> Image.Exif:
    """Returns EXIF data that is read only now, with all warnings."""
    content = image.info.get('exif')
    if content is None:
        return image.getexif()
    exif = Image.Exif()
    exif.load(content)
    return exif


def _writable(image: Image.Image) -> tuple[bytes | None, list[str]]:
    """Returns EXIF data of those tags that can be written, and the names of the others."""
    try:
        exif = _fresh(image)
        tags = sorted(exif)
    except Exception:
        return None, ['all']
    kept, left_out = Image.Exif(), list[str]()
    kept.endian = exif.endian
    for tag in tags:
        try:
            if tag in _POINTERS:
                kept[tag] = _writable_directory(exif, tag, left_out)
            elif tag != _ORIENTATION:
                _check(tag, exif[tag])
                kept[tag] = exif[tag]
        except Exception:
            left_out.append(_name(ExifTags.Base, tag))
    try:
        return (kept.tobytes() if len(kept) else None), left_out
    except Exception:
        return None, ['all']


def _writable_directory(exif: Image.Exif, pointer: int, left_out: list[str]) -> dict[int, Any]:
    kept = {}
    for tag, value in exif.get_ifd(pointer).items():
        try:
            value = exif.get_ifd(tag) if tag == ExifTags.IFD.Interop else value
            _check(pointer, {tag: value})
            kept[tag] = value
        except Exception:
            left_out.append(_name(_POINTERS[pointer], tag))
    return kept


def _check(tag: int, value: object) -> None:
    """Raises an exception if a tag cannot be written."""
    alone = Image.Exif()
    alone[tag] = value
    alone.tobytes()


def _name(names: type[ExifTags.Base] | type[ExifTags.GPS], tag: int) -> str:
    return names(tag).name if tag in names._value2member_map_ else f'tag {tag}'
