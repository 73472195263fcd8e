"""The folder of a data set: where images and LMDBs lie, and the record of the images.

OUT/NAME/HR/*.png            the images
OUT/NAME/pictures.json       size and CRC-32 of each
OUT/NAME/NAME_HR_sub.lmdb    a training set: one HR LMDB for all scales (without `_sub` for whole images)
OUT/NAME/x2/NAME_HR.lmdb     a benchmark: a pair for each scale
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from compsrt_basicsr.data.catalog import TRAIN, Dataset
from compsrt_basicsr.data.images import ImageError, check_file, list_images
from compsrt_basicsr.data.prepare_settings import PrepareSettings
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.text import counted

_FORMAT = 1
_BLOCK = 2**20


@dataclass(frozen=True)
class DatasetFolder:
    """The places of one data set below the output folder `out`."""

    dataset: Dataset
    out: Path

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.out / self.dataset.name

    @property
    def images(self) -> Path:
        """Folder of the images; exists only when all of them are there."""
        return self.path / 'HR'

    @property
    def unfinished(self) -> Path:
        """Folder of the images until all of them are there."""
        return self.path / 'HR.partial'

    @property
    def record(self) -> Path:
        """The file that lists the images."""
        return self.path / 'pictures.json'

    def lmdb_settings(self, scales: Iterable[int]) -> list[tuple[Path, PrepareSettings]]:
        """Returns output folder and settings of each run of `prepare`: one for a training set, else one per scale."""
        scales = tuple(sorted(set(scales)))
        name, crop, step = self.dataset.name, self.dataset.crop, self.dataset.step
        if self.dataset.role == TRAIN:
            return [(self.path, PrepareSettings(name, scales, crop, step))]
        return [(self.path / f'x{scale}', PrepareSettings(name, (scale,), 0)) for scale in scales]

    def pair(self, scale: int) -> tuple[Path, Path]:
        """Returns the HR and the LR LMDB of a scale."""
        side = scale if self.dataset.crop else 0  # the names depend only on whether there are sub-images
        folder = self.path if self.dataset.role == TRAIN else self.path / f'x{scale}'
        outputs = PrepareSettings(self.dataset.name, (scale,), side, side).outputs(folder)
        return outputs[1], outputs[scale]

    def present_scales(self) -> list[int]:
        """Returns the scales of which an LR LMDB exists."""
        candidates = [*self.path.glob('*_LRx*.lmdb'), *self.path.glob('x*/*_LRx*.lmdb')]
        scales = {int(match[1]) for path in candidates if (match := re.search(r'_LRx([1-9]\d*)', path.name))}
        return [scale for scale in sorted(scales - {1}) if self.pair(scale)[1] in candidates]

    def refuse_links(self) -> None:
        """Makes sure that what is written below the output folder stays there.

        Raises:
            CompSRTError: if the data set's folder, or something in it that is written to, is a link.
        """
        for path in (self.path, *self.path.rglob('*')):
            if path.is_symlink() and path.parent != self.images:  # the user's own images may be links
                raise CompSRTError(
                    f'`{path}` is a link, through which nothing is written: put the folder itself there, or give the '
                    'folder it leads to with --out.'
                )


def write_record(folder: DatasetFolder, images: Path) -> None:
    """Records size and CRC-32 of all images in the folder `images` as those of the data set."""
    found = {path.name: [path.stat().st_size, _crc(path)] for path in list_images(images)}
    write_text(folder.record, json.dumps({'format': _FORMAT, 'pictures': found}, indent=0))


def read_record(folder: DatasetFolder) -> dict[str, tuple[int, int]] | None:
    """Returns size in bytes and CRC-32 of each image, or None without a usable record."""
    try:
        content = json.loads(folder.record.read_text(encoding='utf-8'))
        if content['format'] != _FORMAT:
            return None
        return {str(name): (int(size), int(crc)) for name, (size, crc) in content['pictures'].items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def image_errors(folder: DatasetFolder, deep: bool = False) -> list[str]:
    """Compares the images with their record or, without one, their number with that of the data set.

    Args:
        folder: of the data set.
        deep: compare contents too, not only sizes.

    Returns:
        What differs, as ends of sentences that start with the folder.
    """
    recorded = read_record(folder)
    try:
        found = {path.name: path for path in list_images(folder.images)}
    except CompSRTError:
        return ['holds no image']
    if recorded is None:
        expected = folder.dataset.count
        return [] if len(found) == expected else [f'holds {counted(len(found), "image")}, not {expected}']
    errors = [f'lacks {name}' for name in recorded if name not in found]
    errors += [f'also has {name}' for name in found if name not in recorded]
    for name in sorted(found.keys() & recorded.keys()):
        size, crc = recorded[name]
        try:
            check_file(found[name])
        except ImageError as error:
            errors.append(f'has {name}, which {error.reason}')
            continue
        if found[name].stat().st_size != size or (deep and _crc(found[name]) != crc):
            errors.append(f'has a changed {name}')
    return errors


def _crc(file: Path) -> int:
    """Returns the CRC-32 of a file's content."""
    crc = 0
    with file.open('rb') as stream:
        while block := stream.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc
