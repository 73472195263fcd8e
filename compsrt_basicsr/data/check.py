"""Check which data sets are complete, missing or corrupt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import lmdb
import numpy as np

from compsrt_basicsr.basicsr_compat.lmdb_store import check_lmdb_folder, open_shared
from compsrt_basicsr.data.catalog import Dataset
from compsrt_basicsr.data.dataset_folder import DatasetFolder, image_errors
from compsrt_basicsr.data.images import check_images, list_images
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory
from compsrt_basicsr.utils.progress import SILENT, Progress
from compsrt_basicsr.utils.text import counted

Shape = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True)
class Report:
    """The state of a data set on the disk.

    Attributes:
        dataset: the data set.
        image_errors: ends of sentences that start with the folder of images; empty if all is right or none are kept.
        kept: whether the folder of images is there.
        pairs: HR and LR LMDB of each scale that is complete.
        missing: scales without LMDBs.
        corrupt: errors of the LMDBs of each scale, as sentences.
    """

    dataset: Dataset
    image_errors: tuple[str, ...]
    kept: bool
    pairs: dict[int, tuple[Path, Path]]
    missing: tuple[int, ...]
    corrupt: dict[int, tuple[str, ...]]

    @property
    def there(self) -> bool:
        """Whether anything of the data set is there."""
        return bool(self.kept or self.pairs or self.corrupt)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing and nothing corrupt."""
        return not (self.image_errors or self.missing or self.corrupt)


def check(
    dataset: Dataset, out: Path, scales: Iterable[int], *, deep: bool = False, progress: Progress = SILENT
) -> Report:
    """Compares a data set on the disk with what it should be.

    Args:
        dataset: the data set.
        out: the folder of data sets.
        scales: factors whose LMDBs should be there.
        deep: decode every image and every entry.
        progress: display of the work.
    """
    folder = DatasetFolder(dataset, out)
    errors: list[str] = []
    kept = folder.images.is_dir()
    if kept:
        errors = image_errors(folder, deep)
        if deep and not errors:
            bad = check_images(list_images(folder.images), 1, progress)
            errors = [f'has {name}, which {reason}' for name, reason in bad.items()]
    pairs: dict[int, tuple[Path, Path]] = {}
    missing: list[int] = []
    corrupt: dict[int, tuple[str, ...]] = {}
    for scale in scales:
        paths = folder.pair(scale)
        if not all(path.exists() for path in paths):
            missing.append(scale)
            continue
        found = pair_errors(folder, scale, deep=deep, progress=progress)
        if found:
            corrupt[scale] = tuple(found)
        else:
            pairs[scale] = paths
    return Report(dataset, tuple(errors), kept, pairs, tuple(missing), corrupt)


def pair_errors(folder: DatasetFolder, scale: int, *, deep: bool = False, progress: Progress = SILENT) -> list[str]:
    """Returns what is wrong with the HR and the LR LMDB of a scale, as sentences."""
    high_path, low_path = folder.pair(scale)
    try:
        high, low = (_read_lmdb(path, deep, progress) for path in (high_path, low_path))
    except CompSRTError as error:
        return [str(error)]
    errors = []
    only = sorted(high.keys() ^ low.keys())
    if only:
        errors.append(
            f'`{high_path}` and `{low_path}` differ in {counted(len(only), "key")}, the first is `{only[0]}`.'
        )
    for key in sorted(high.keys() & low.keys()):
        (height, width, channels), (low_height, low_width, low_channels) = high[key], low[key]
        if (height, width, channels) != (low_height * scale, low_width * scale, low_channels):
            errors.append(
                f'`{key}` has {width}x{height} pixels in `{high_path}` and {low_width}x{low_height} in `{low_path}`.'
            )
            break
    images = {re.sub(r'_s\d{3,}$', '', key) for key in high} if folder.dataset.crop else set(high)
    if len(images) != folder.dataset.count:
        errors.append(
            f'`{high_path}` has {counted(len(images), "image")}, {folder.dataset.name} has {folder.dataset.count}.'
        )
    return errors


def _read_lmdb(path: Path, deep: bool, progress: Progress) -> dict[str, Shape]:
    """Returns the shape of each entry by its meta_info.txt, after comparing that with the LMDB.

    Raises:
        CompSRTError: if they do not agree, or the LMDB is damaged.
    """
    check_lmdb_folder(str(path))
    shapes = read_meta_info(path / 'meta_info.txt')
    environment = open_shared(str(path), readonly=True, lock=False, readahead=False)
    try:
        with environment.begin(buffers=True) as txn, txn.cursor() as cursor:
            keys = {bytes(key).decode('ascii', 'replace') for key in cursor.iternext(values=False)}
            differing = sorted(keys ^ shapes.keys())
            if differing:
                raise CompSRTError(
                    f'`{path}` and its meta_info.txt differ in {counted(len(differing), "key")}, the first is '
                    f'`{differing[0]}`.'
                )
            for key in progress.track(sorted(keys), f'check {path.name}', 'image') if deep else ():
                _check_entry(path, key, txn.get(key.encode()) or b'', shapes[key])
    except lmdb.Error as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError(f'`{path}` is damaged ({error}).') from error
    return shapes


def _check_entry(path: Path, key: str, value: memoryview | bytes, shape: Shape) -> None:
    image = None
    try:
        image = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if is_out_of_memory(error):
            raise
    # OpenCV decodes a truncated PNG as far as it goes, so the end is looked for too
    if image is None or bytes(value[-8:-4]) != b'IEND':
        raise CompSRTError(f'`{key}` in `{path}` cannot be decoded.')
    found = (*image.shape, 1)[:3]
    if found != shape:
        raise CompSRTError(f'`{key}` in `{path}` has the shape {found}, not {shape} as in meta_info.txt.')


def read_meta_info(file: Path) -> dict[str, Shape]:
    """Returns the shape of each entry of an LMDB by key, as its meta_info.txt lists it.

    Raises:
        CompSRTError: if a line is not of BasicSR's form.
    """
    shapes = {}
    for number, line in enumerate(file.read_text(encoding='utf-8', errors='replace').splitlines(), start=1):
        match = re.match(r'(.+?)\.\w+ \((\d+),(\d+),(\d+)\)', line)
        if not match:
            raise CompSRTError(f'Line {number} of `{file}` is not of the form `key.png (height,width,channels) level`.')
        shapes[match[1]] = (int(match[2]), int(match[3]), int(match[4]))
    return shapes


def asked_or_present(dataset: Dataset, out: Path, scales: Sequence[int], asked: bool) -> list[int]:
    """Returns the scales to check: those given if the data set was asked for, else those that are there."""
    return sorted(set(scales)) if asked else DatasetFolder(dataset, out).present_scales()
