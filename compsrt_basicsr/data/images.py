"""Find, read and check the images of a folder."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile as OpenedImage

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.progress import SILENT, Progress

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
_FORMATS = ('PNG', 'JPEG', 'MPO', 'BMP', 'DIB', 'TIFF', 'WEBP')
_ALPHA_MODES = ('LA', 'La', 'PA', 'RGBA', 'RGBa')
_MODES = ('1', 'L', 'P', 'RGB')


class ImageError(CompSRTError):
    """An image that cannot be used.

    Attributes:
        reason: why, as the end of a sentence that starts with the file's name.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f'`{path}` {reason}; fix or remove it.')
        self.reason = reason


def list_images(folder: Path) -> list[Path]:
    """Lists the images of a folder by extension, sorted by name, without hidden files and subfolders.

    Raises:
        CompSRTError: if `folder` is not a folder or holds no image.
    """
    if not folder.is_dir():
        raise CompSRTError(f'`{folder}` is not a folder; give the folder that holds the images.')
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith('.') and path.is_file()
    ]
    if not found:
        raise CompSRTError(
            f'`{folder}` holds no image; files ending in {", ".join(EXTENSIONS)} are read, subfolders are not.'
        )
    return sorted(found, key=lambda path: path.name)


def image_key(path: Path) -> str:
    """Returns the file's stem with everything but ASCII letters, digits, `-` and `_` replaced by `_`."""
    return re.sub(r'[^A-Za-z0-9_-]', '_', path.stem)


def unique_names(paths: Iterable[Path], name: Callable[[Path], str]) -> dict[str, Path]:
    """Maps `name(path)` to each path, in the order given.

    Raises:
        CompSRTError: if two paths get the same name. The message gives both paths.
    """
    owners: dict[str, Path] = {}
    for path in paths:
        other = owners.setdefault(name(path), path)
        if other is not path:
            raise CompSRTError(
                f'`{other.name}` and `{path.name}` would both be stored as `{name(path)}`; rename one of them.'
            )
    return owners


def read_image(path: Path) -> np.ndarray:
    """Reads an 8-bit image completely and turns it upright, as its EXIF orientation says.

    Returns:
        uint8 (H, W) for a grey image, else (H, W, 3) in the order red, green, blue; values in [0, 255].

    Raises:
        ImageError: if the file is damaged or truncated, has an alpha channel or more than 8 bits per channel, holds
            several images, or uses a colour model other than grey and RGB.
    """
    with decoding(path), Image.open(path) as image:
        _check_kind(image, path)
        upright = ImageOps.exif_transpose(image)  # decodes; Pillow refuses incomplete data
        return np.array(upright.convert('L' if upright.mode in ('1', 'L') else 'RGB'))


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while an image is decoded into an error that names the file.

    Raises:
        ImageError: for every exception except `MemoryError` and `CompSRTError`, which pass unchanged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # a large image is no error; Pillow raises by itself for a bomb
            yield
    except (CompSRTError, MemoryError):
        raise
    except PermissionError as error:
        raise ImageError(path, 'may not be read (permission denied)') from error
    except Image.DecompressionBombError as error:
        raise ImageError(path, f'has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels') from error
    except UnidentifiedImageError as error:
        raise ImageError(path, 'is no image of a known format, or its header is damaged') from error
    except Exception as error:  # on a damaged file the decoders raise almost anything
        raise ImageError(path, f'is damaged or truncated ({error})') from error


def check_images(paths: Sequence[Path], smallest: int, progress: Progress = SILENT) -> dict[str, str]:
    """Decodes every image once and collects what is wrong.

    Args:
        paths: the files.
        smallest: least height and width, in pixels.
        progress: display of the work.

    Returns:
        The reason for each unusable image, by file name.
    """
    bad = {}
    for path in progress.track(paths, 'check', 'image'):
        try:
            height, width = read_image(path).shape[:2]
        except ImageError as error:
            bad[path.name] = error.reason
            continue
        if min(height, width) < smallest:
            bad[path.name] = f'is {width}x{height}, smaller than {smallest}x{smallest}'
    return bad


def good_images(paths: Sequence[Path], bad: dict[str, str], skip_bad: bool) -> list[Path]:
    """Leaves the unusable images out, if `skip_bad` allows it.

    Raises:
        CompSRTError: if there are unusable images and `skip_bad` is false, or no usable image is left.
    """
    good = [path for path in paths if path.name not in bad]
    if len(good) < len(paths) and not (skip_bad and good):
        remedy = 'give a folder with usable ones'
        if good:
            remedy = 'fix or remove them (`compsrt data` leaves them out with --skip-bad)'
        listing = ''.join(f'\n  {path.name} {bad[path.name]}' for path in paths if path.name in bad)
        raise CompSRTError(f'{len(paths) - len(good)} of {len(paths)} images cannot be used; {remedy}:{listing}')
    return good


def _check_kind(image: OpenedImage, path: Path) -> None:
    """Refuses what 8-bit grey or RGB would misrepresent; reads the header only."""
    if image.format not in _FORMATS:
        raise ImageError(path, f'is a {image.format} file')
    if _is_deep(image):
        raise ImageError(path, 'has more than 8 bits per channel')
    if image.mode in _ALPHA_MODES or 'transparency' in image.info:
        raise ImageError(path, 'has an alpha channel')
    if image.mode not in _MODES:
        raise ImageError(path, f'has the colour model {image.mode}, not grey or RGB')
    if getattr(image, 'n_frames', 1) > 1 and image.format != 'MPO':  # MPO: a photograph with its preview
        raise ImageError(path, 'holds several images')


def _is_deep(image: OpenedImage) -> bool:
    if image.mode.startswith('I') or image.mode == 'F':
        return True
    if image.format in ('BMP', 'DIB'):
        return False  # their `;16` means 16 bits per pixel
    # Pillow reads 16-bit RGB as mode RGB and drops the low bytes; only the raw mode shows it
    raw_modes = [tile[3] if isinstance(tile[3], str) else (tile[3] or ('',))[0] for tile in image.tile]
    return any(';16' in str(raw_mode) for raw_mode in raw_modes)
