"""Find, read and check the images of a folder."""

from __future__ import annotations

import errno
import io
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile as OpenedImage

from compsrt_basicsr.data.image_kind import band_error, bits_per_channel
from compsrt_basicsr.data.without_metadata import without_metadata
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory, memory_for
from compsrt_basicsr.utils.progress import SILENT, Progress
from compsrt_basicsr.utils.text import counted

T = TypeVar('T')

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
_FORMATS = ('PNG', 'JPEG', 'MPO', 'BMP', 'DIB', 'TIFF', 'WEBP')
_ALPHA_MODES = ('LA', 'La', 'PA', 'RGBA', 'RGBa')
_MODES = ('1', 'L', 'P', 'RGB')
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # by EXIF orientation
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


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

    A link counts as what it leads to, also where two names lead to one image. A link that leads nowhere is listed too,
    so that whoever reads it names it (see `check_file`).

    Raises:
        CompSRTError: if `folder` is not a folder or holds no image.
    """
    if not folder.is_dir():
        raise CompSRTError(f'`{folder}` is not a folder; give the folder that holds the images.')
    found = [path for path in folder.iterdir() if is_listed(path)]
    if not found:
        raise CompSRTError(
            f'`{folder}` holds no image; files ending in {", ".join(EXTENSIONS)} are read, subfolders are not.'
        )
    return sorted(found, key=lambda path: path.name)


def is_listed(path: Path) -> bool:
    """Tells whether something in a folder is named as an image, and is neither hidden nor a folder."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith('.') and not os.path.isdir(path)


def check_file(path: Path) -> None:
    """Makes sure that a path leads to a file, without opening it (a pipe would block).

    Raises:
        ImageError: if it is a link that leads nowhere, a folder, or no regular file.
        CompSRTError: if it does not exist.
    """
    if os.path.isfile(path):
        return
    if path.is_symlink():
        raise ImageError(path, f'is a link to `{os.readlink(path)}`, where there is no file that can be read')
    if not os.path.exists(path):
        raise CompSRTError(f'`{path}` does not exist; check the path.')
    raise ImageError(path, 'is a folder' if os.path.isdir(path) else 'is no regular file')


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
        ImageError: if the file is damaged or truncated, has an alpha channel, bands that are no colours or more than 8
            bits per channel, holds several images, or uses a colour model other than grey and RGB.
        CompSRTError: if the file does not exist.
    """

    def pixels(image: OpenedImage, is_whole: bool) -> np.ndarray:
        _check_kind(image, path)
        image.load()  # Pillow refuses incomplete data
        values = np.array(image.convert('L' if image.mode in ('1', 'L') else 'RGB'))
        return upright(values, orientation(image))

    return decoded(path, pixels)


def decoded(path: Path, use: Callable[[OpenedImage, bool], T]) -> T:
    """Opens an image and returns `use(image, True)`.

    If that fails, it is opened again without the metadata that cannot be read: only pixels decide whether an image is
    sound. Then the result is `use(image, False)`.

    Raises:
        ImageError: if that fails too, or the path is no file.
        CompSRTError: if the file does not exist, or what `use` raises.
    """
    with decoding(path):
        check_file(path)
        try:
            with Image.open(path) as image:
                return use(image, True)
        except (CompSRTError, MemoryError, Image.DecompressionBombError):
            raise
        except Exception as error:
            if is_out_of_memory(error) or (isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)):
                raise  # of the system, not of the content
            reduced = without_metadata(path.read_bytes())
            if reduced is None:
                raise
            try:
                with Image.open(io.BytesIO(reduced)) as image:
                    return use(image, False)
            except (CompSRTError, MemoryError):
                raise
            except Exception as again:
                if is_out_of_memory(again):
                    raise
                raise error from None


def orientation(image: OpenedImage) -> int:
    """Returns the EXIF orientation, 1 to 8, of a loaded image; 1 if it has none that can be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # on damaged EXIF data Pillow raises almost anything
        if is_out_of_memory(error):
            raise
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def upright(values: np.ndarray, turned: int) -> np.ndarray:
    """Turns (H, W, ...) values that are stored in an EXIF orientation, 1 to 8."""
    return np.ascontiguousarray(_UPRIGHT[turned](values)) if turned in _UPRIGHT else values


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while an image is decoded into an error that names the file.

    Raises:
        OutOfMemory: if memory ran out.
        ImageError: for every other exception except `CompSRTError`, which passes unchanged.
    """
    try:
        with memory_for(f'`{path}`', 'free some memory, or cut the image into parts'), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # a large image is no error; Pillow raises by itself for a bomb
            yield
    except CompSRTError:
        raise
    except PermissionError as error:
        raise ImageError(path, 'may not be read (permission denied)') from error
    except Image.DecompressionBombError as error:
        raise ImageError(path, f'has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels') from error
    except UnidentifiedImageError as error:
        raise ImageError(path, _unidentified(path)) from error
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
        raise CompSRTError(
            f'{len(paths) - len(good)} of {counted(len(paths), "image")} cannot be used; {remedy}:{listing}'
        )
    return good


def _unidentified(path: Path) -> str:
    with suppress(OSError), path.open('rb') as stream:
        if stream.read(4) in (b'II*\0', b'MM\0*'):
            return 'is a damaged TIFF file, or stores its bands in a rare way; those of 1, 3 and 4 bands are read'
    return 'is no image of a known format, or its header is damaged'


def _check_kind(image: OpenedImage, path: Path) -> None:
    """Refuses what 8-bit grey or RGB would misrepresent; reads the header only."""
    if image.format not in _FORMATS:
        raise ImageError(path, f'is a {image.format} file')
    if bits_per_channel(image) > 8 or image.mode.startswith('I') or image.mode == 'F':
        raise ImageError(path, 'has more than 8 bits per channel')
    if reason := band_error(image):
        raise ImageError(path, reason)
    if image.mode in _ALPHA_MODES or 'transparency' in image.info:
        raise ImageError(path, 'has an alpha channel')
    if image.mode not in _MODES:
        raise ImageError(path, f'has the colour model {image.mode}, not grey or RGB')
    if getattr(image, 'n_frames', 1) > 1 and image.format != 'MPO':  # MPO: a photograph with its preview
        raise ImageError(path, 'holds several images')
