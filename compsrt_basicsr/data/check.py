"""What of a data set is there, what is missing, and what is corrupt."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import lmdb
import numpy as np

from compsrt_basicsr.basicsr_compat.lmdb_store import check_lmdb_folder, open_shared
from compsrt_basicsr.data.catalog import Dataset
from compsrt_basicsr.data.layout import Layout, picture_faults
from compsrt_basicsr.data.pictures import check_pictures, list_pictures
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.progress import SILENT, Progress

Shape = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True)
class Report:
    """The state of a data set on the disk.

    Attributes:
        dataset: the data set.
        pictures: ends of sentences that begin with the pictures' folder; empty if they are right or not kept.
        kept: whether the folder of pictures is there.
        pairs: HR and LR LMDB of each scale that is complete.
        missing: scales without LMDBs.
        corrupt: what is wrong with the LMDBs of each scale.
    """

    dataset: Dataset
    pictures: tuple[str, ...]
    kept: bool
    pairs: dict[int, tuple[Path, Path]]
    missing: tuple[int, ...]
    corrupt: dict[int, tuple[str, ...]]

    @property
    def there(self) -> bool:
        """Whether anything is."""
        return bool(self.kept or self.pairs or self.corrupt)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing and nothing corrupt."""
        return not (self.pictures or self.missing or self.corrupt)


def check(
    dataset: Dataset, out: Path, scales: Iterable[int], *, deep: bool = False, progress: Progress = SILENT
) -> Report:
    """Compares a data set on the disk with what it should be.

    Args:
        dataset: the data set.
        out: the folder of data sets.
        scales: factors whose LMDBs should be there.
        deep: decode every picture and every entry.
        progress: display of the work.
    """
    layout = Layout(dataset, out)
    faults: list[str] = []
    kept = layout.pictures.is_dir()
    if kept:
        faults = picture_faults(layout, deep)
        if deep and not faults:
            bad = check_pictures(list_pictures(layout.pictures), 1, progress)
            faults = [f'has {name}, which {reason}' for name, reason in bad.items()]
    pairs, missing, corrupt = {}, [], {}
    for scale in scales:
        paths = layout.pair(scale)
        if not all(path.exists() for path in paths):
            missing.append(scale)
            continue
        found = pair_faults(layout, scale, deep=deep, progress=progress)
        if found:
            corrupt[scale] = tuple(found)
        else:
            pairs[scale] = paths
    return Report(dataset, tuple(faults), kept, pairs, tuple(missing), corrupt)


def pair_faults(layout: Layout, scale: int, *, deep: bool = False, progress: Progress = SILENT) -> list[str]:
    """What is wrong with the HR and the LR LMDB of a scale, as sentences; empty if nothing is."""
    high_path, low_path = layout.pair(scale)
    try:
        high, low = (_read_lmdb(path, deep, progress) for path in (high_path, low_path))
    except CompSRTError as error:
        return [str(error)]
    faults = []
    only = sorted(high.keys() ^ low.keys())
    if only:
        faults.append(f'`{high_path}` and `{low_path}` differ in {len(only)} keys, the first is `{only[0]}`.')
    for key in sorted(high.keys() & low.keys()):
        (height, width, channels), (low_height, low_width, low_channels) = high[key], low[key]
        if (height, width, channels) != (low_height * scale, low_width * scale, low_channels):
            faults.append(
                f'`{key}` has {width}x{height} pixels in `{high_path}` and {low_width}x{low_height} in `{low_path}`.'
            )
            break
    pictures = {re.sub(r'_s\d{3,}$', '', key) for key in high} if layout.dataset.crop else set(high)
    if len(pictures) != layout.dataset.count:
        faults.append(f'`{high_path}` has {len(pictures)} pictures, {layout.dataset.name} {layout.dataset.count}.')
    return faults


def _read_lmdb(path: Path, deep: bool, progress: Progress) -> dict[str, Shape]:
    """Shape of each entry as meta_info.txt tells it, after comparing that with the LMDB.

    Raises:
        CompSRTError: they do not agree, or the LMDB is damaged.
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
                    f'`{path}` and its meta_info.txt differ in {len(differing)} keys, the first is `{differing[0]}`.'
                )
            for key in progress.track(sorted(keys), f'check {path.name}', 'image') if deep else ():
                _check_entry(path, key, txn.get(key.encode()), shapes[key])
    except lmdb.Error as error:
        raise CompSRTError(f'`{path}` is damaged ({error}).') from error
    return shapes


def _check_entry(path: Path, key: str, value: memoryview, shape: Shape) -> None:
    image = None
    with contextlib.suppress(cv2.error):
        image = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_UNCHANGED)
    # a PNG that was cut short is decoded as far as it goes, so its end is looked for too
    if image is None or bytes(value[-8:-4]) != b'IEND':
        raise CompSRTError(f'`{key}` in `{path}` cannot be decoded.')
    found = (*image.shape, 1)[:3]
    if found != shape:
        raise CompSRTError(f'`{key}` in `{path}` has the shape {found}, not {shape} as in meta_info.txt.')


def read_meta_info(file: Path) -> dict[str, Shape]:
    """Shape of each entry of an LMDB by key, as its meta_info.txt tells it.

    Raises:
        CompSRTError: a line is not of BasicSR's form.
    """
    shapes = {}
    for number, line in enumerate(file.read_text(encoding='utf-8', errors='replace').splitlines(), start=1):
        match = re.match(r'(.+?)\.\w+ \((\d+),(\d+),(\d+)\)', line)
        if not match:
            raise CompSRTError(f'Line {number} of `{file}` is not of the form `key.png (height,width,channels) level`.')
        shapes[match[1]] = (int(match[2]), int(match[3]), int(match[4]))
    return shapes


def asked_or_present(dataset: Dataset, out: Path, scales: Sequence[int], asked: bool) -> list[int]:
    """The scales to look at: those given if the data set was asked for, else those that are there."""
    return sorted(set(scales)) if asked else Layout(dataset, out).present_scales()
