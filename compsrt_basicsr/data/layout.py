"""Where the pictures and LMDBs of a data set lie, and the record of the pictures.

OUT/NAME/HR/*.png            the pictures
OUT/NAME/pictures.json       size and CRC-32 of each
OUT/NAME/NAME_HR_sub.lmdb    a training set: one HR LMDB for all scales (without `_sub` for whole pictures)
OUT/NAME/x2/NAME_HR.lmdb     a benchmark: a pair for each scale
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from compsrt_basicsr.data.archives import file_crc
from compsrt_basicsr.data.catalog import TRAIN, Dataset
from compsrt_basicsr.data.pictures import list_pictures
from compsrt_basicsr.data.prepare import PrepareSettings
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.atomic_write import write_text

_FORMAT = 1


@dataclass(frozen=True)
class Layout:
    """The places of one data set below the output folder."""

    dataset: Dataset
    out: Path

    @property
    def folder(self) -> Path:
        """Folder of the data set."""
        return self.out / self.dataset.name

    @property
    def pictures(self) -> Path:
        """Folder of the pictures; exists only when all are there."""
        return self.folder / 'HR'

    @property
    def unfinished(self) -> Path:
        """Folder of the pictures while they are gathered."""
        return self.folder / 'HR.partial'

    @property
    def record(self) -> Path:
        """The file that says which pictures there are."""
        return self.folder / 'pictures.json'

    def jobs(self, scales: Iterable[int]) -> list[tuple[Path, PrepareSettings]]:
        """What `prepare` is asked for: output folder and settings, one of a training set, one a scale otherwise."""
        scales = tuple(sorted(set(scales)))
        name, crop, step = self.dataset.name, self.dataset.crop, self.dataset.step
        if self.dataset.role == TRAIN:
            return [(self.folder, PrepareSettings(name, scales, crop, step))]
        return [(self.folder / f'x{scale}', PrepareSettings(name, (scale,), 0)) for scale in scales]

    def pair(self, scale: int) -> tuple[Path, Path]:
        """The HR and the LR LMDB of a scale."""
        side = scale if self.dataset.crop else 0  # the names tell only whether there are sub-images
        folder = self.folder if self.dataset.role == TRAIN else self.folder / f'x{scale}'
        outputs = PrepareSettings(self.dataset.name, (scale,), side, side).outputs(folder)
        return outputs[1], outputs[scale]

    def present_scales(self) -> list[int]:
        """Scales of which an LR LMDB exists."""
        candidates = [*self.folder.glob('*_LRx*.lmdb'), *self.folder.glob('x*/*_LRx*.lmdb')]
        scales = {int(match[1]) for path in candidates if (match := re.search(r'_LRx([1-9]\d*)', path.name))}
        return [scale for scale in sorted(scales - {1}) if self.pair(scale)[1] in candidates]

    def refuse_links(self) -> None:
        """Makes sure that what is written below the output folder stays there.

        Raises:
            CompSRTError: the data set's folder, or something in it that is written to, is a link.
        """
        for path in (self.folder, *self.folder.rglob('*')):
            if path.is_symlink() and path.parent != self.pictures:  # the user's own pictures may be links
                raise CompSRTError(
                    f'`{path}` is a link, through which nothing is written: put the folder itself there, or give the '
                    'folder it leads to with --out.'
                )


def write_record(layout: Layout, pictures: Path) -> None:
    """Notes size and CRC-32 of all pictures of a folder as those of the data set."""
    found = {path.name: [path.stat().st_size, file_crc(path)] for path in list_pictures(pictures)}
    write_text(layout.record, json.dumps({'format': _FORMAT, 'pictures': found}, indent=0))


def read_record(layout: Layout) -> dict[str, tuple[int, int]] | None:
    """Size and CRC-32 of each picture, or None where there is no usable record."""
    try:
        content = json.loads(layout.record.read_text(encoding='utf-8'))
        if content['format'] != _FORMAT:
            return None
        return {str(name): (int(size), int(crc)) for name, (size, crc) in content['pictures'].items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def picture_faults(layout: Layout, deep: bool = False) -> list[str]:
    """What differs between the pictures and their record, or the number that there should be.

    Args:
        layout: the data set.
        deep: compare contents too, not sizes only.

    Returns:
        Ends of sentences that begin with the folder; empty if all is well.
    """
    folder, recorded = layout.pictures, read_record(layout)
    try:
        found = {path.name: path for path in list_pictures(folder)}
    except CompSRTError:
        return ['holds no picture']
    if recorded is None:
        count = layout.dataset.count
        return [] if len(found) == count else [f'holds {len(found)} pictures, not {count}']
    faults = [f'lacks {name}' for name in recorded if name not in found]
    faults += [f'has {name} besides' for name in found if name not in recorded]
    for name in sorted(found.keys() & recorded.keys()):
        size, crc = recorded[name]
        if found[name].stat().st_size != size or (deep and file_crc(found[name]) != crc):
            faults.append(f'has a changed {name}')
    return faults
