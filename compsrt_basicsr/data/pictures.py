"""Finding, reading and judging the pictures of a folder."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.progress import SILENT, Progress

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
_FORMATS = ('PNG', 'JPEG', 'MPO', 'BMP', 'DIB', 'TIFF', 'WEBP')
_ALPHA_MODES = ('LA', 'La', 'PA', 'RGBA', 'RGBa')
_MODES = ('1', 'L', 'P', 'RGB')

T = TypeVar('T')


class PictureError(CompSRTError):
    """A picture that cannot be used.

    Attributes:
        reason: why, as the end of a sentence that starts with the file's name.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(f'`{path}` {reason}; mend or remove it.')
        self.reason = reason


def list_pictures(folder: Path) -> list[Path]:
    """Lists the pictures of a folder by extension, sorted by name; hidden files and subfolders are left out.

    Raises:
        CompSRTError: `folder` is not a folder or holds no picture.
    """
    if not folder.is_dir():
        raise CompSRTError(f'`{folder}` is not a folder; give the folder that holds the pictures.')
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith('.') and path.is_file()
    ]
    if not found:
        raise CompSRTError(
            f'`{folder}` holds no picture; files ending in {", ".join(EXTENSIONS)} are read, subfolders are not.'
        )
    return sorted(found, key=lambda path: path.name)


def picture_key(path: Path) -> str:
    """Returns the file's stem with everything but ASCII letters, digits, `-` and `_` replaced by `_`."""
    return re.sub(r'[^A-Za-z0-9_-]', '_', path.stem)


def unique_names(paths: Iterable[Path], name: Callable[[Path], str]) -> dict[str, Path]:
    """Maps `name(path)` to each path, in the order given.

    Raises:
        CompSRTError: two paths get one name; both are named.
    """
    owners: dict[str, Path] = {}
    for path in paths:
        other = owners.setdefault(name(path), path)
        if other is not path:
            raise CompSRTError(
                f'`{other.name}` and `{path.name}` would both be stored as `{name(path)}`; rename one of them.'
            )
    return owners


def read_picture(path: Path) -> np.ndarray:
    """Reads an 8-bit picture completely, turned upright as its EXIF orientation says.

    Returns:
        uint8 (H, W) for a grey picture, else (H, W, 3) in the order red, green, blue; values in [0, 255].

    Raises:
        PictureError: the file is damaged or cut short, has an alpha channel, more than 8 bits per channel, several
            pictures, or a colour model other than grey and RGB.
    """
    with decoding(path), Image.open(path) as image:
        _check_kind(image, path)
        upright = ImageOps.exif_transpose(image)  # decodes; Pillow is strict about missing data
        return np.array(upright.convert('L' if upright.mode in ('1', 'L') else 'RGB'))


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong inside, while a picture is decoded, into a sentence about it.

    Raises:
        PictureError: for anything but a lack of memory and faults that have their sentence already.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # a large picture is no fault; Pillow raises by itself for a bomb
            yield
    except (CompSRTError, MemoryError):
        raise
    except PermissionError as error:
        raise PictureError(path, 'may not be read (permission denied)') from error
    except Image.DecompressionBombError as error:
        raise PictureError(path, f'has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels') from error
    except Image.UnidentifiedImageError as error:
        raise PictureError(path, 'is no picture of a known format, or its header is damaged') from error
    except Exception as error:  # on a broken file the decoders raise almost anything
        raise PictureError(path, f'is damaged or cut short ({error})') from error


def check_pictures(paths: Sequence[Path], smallest: int, progress: Progress = SILENT) -> dict[str, str]:
    """Decodes every picture once and collects what is wrong.

    Args:
        paths: the files.
        smallest: least height and width, in pixels.
        progress: display of the work.

    Returns:
        The reason for each bad file, by file name; empty when all are good.
    """
    bad = {}
    for path in progress.track(paths, 'check', 'image'):
        try:
            height, width = read_picture(path).shape[:2]
        except PictureError as error:
            bad[path.name] = error.reason
            continue
        if min(height, width) < smallest:
            bad[path.name] = f'is {width}x{height}, smaller than {smallest}x{smallest}'
    return bad


def good_pictures(paths: Sequence[Path], bad: dict[str, str], skip_bad: bool) -> list[Path]:
    """Leaves the bad pictures out, if that was asked for.

    Raises:
        CompSRTError: there are bad pictures and `skip_bad` is false, or no good picture is left.
    """
    good = [path for path in paths if path.name not in bad]
    if len(good) < len(paths) and not (skip_bad and good):
        remedy = 'give a folder with usable ones'
        if good:
            remedy = 'mend or remove them (`compsrt data` leaves them out with --skip-bad)'
        listing = ''.join(f'\n  {path.name} {bad[path.name]}' for path in paths if path.name in bad)
        raise CompSRTError(f'{len(paths) - len(good)} of {len(paths)} pictures cannot be used; {remedy}:{listing}')
    return good


def _check_kind(image: Image.Image, path: Path) -> None:
    """Refuses what 8-bit grey or RGB would misrepresent; reads the header only."""
    if image.format not in _FORMATS:
        raise PictureError(path, f'is a {image.format} file')
    if _is_deep(image):
        raise PictureError(path, 'has more than 8 bits per channel')
    if image.mode in _ALPHA_MODES or 'transparency' in image.info:
        raise PictureError(path, 'has an alpha channel')
    if image.mode not in _MODES:
        raise PictureError(path, f'has the colour model {image.mode}, not grey or RGB')
    if getattr(image, 'n_frames', 1) > 1 and image.format != 'MPO':  # MPO: a photograph with its preview
        raise PictureError(path, 'holds several pictures')


def _is_deep(image: Image.Image) -> bool:
    if image.mode.startswith('I') or image.mode == 'F':
        return True
    if image.format in ('BMP', 'DIB'):
        return False  # their `;16` means 16 bits per pixel
    # Pillow reads 16-bit RGB as mode RGB and drops the low bytes; only the raw mode tells
    raw_modes = [tile[3] if isinstance(tile[3], str) else (tile[3] or ('',))[0] for tile in image.tile]
    return any(';16' in str(raw_mode) for raw_mode in raw_modes)
