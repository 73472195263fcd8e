"""The data sets of a sweep: LMDBs that exist, or that are made once from images, in the sweep's folder."""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compsrt_basicsr.config.sweep import TRAIN, LmdbOptions
from compsrt_basicsr.data.images import check_file, is_listed, list_images
from compsrt_basicsr.data.prepare import prepare
from compsrt_basicsr.data.prepare_settings import PrepareSettings
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.expand_user import expand_user
from compsrt_basicsr.utils.lock import locked
from compsrt_basicsr.utils.log import logger
from compsrt_basicsr.utils.progress import SILENT, Progress


@dataclass(frozen=True)
class LmdbPair:
    """The LMDBs of the high-resolution and the low-resolution images of a data set."""

    gt: Path
    lq: Path

    def fingerprint(self) -> dict[str, Any]:
        """Returns the number of images, and the SHA-256 of the list of their names and sizes."""
        listing = (self.gt / 'meta_info.txt').read_bytes()
        return {'pictures': len(listing.splitlines()), 'sha256': hashlib.sha256(listing).hexdigest()}

    def options(self) -> dict[str, Any]:
        """Returns the options of a BasicSR data set."""
        roots = {'dataroot_gt': str(self.gt), 'dataroot_lq': str(self.lq)}
        return {'type': 'PairedImageDataset', **roots, 'io_backend': {'type': 'lmdb'}}


class DataSets:
    """The data sets of a sweep file.

    Args:
        sets: for each name a folder of images, a pattern, a list of patterns, or two LMDBs.
        root: where relative paths start.
        made: folder of the LMDBs that are made.
    """

    def __init__(self, sets: Mapping[str, LmdbOptions | list[str] | str], root: Path, made: Path) -> None:
        self._root, self._made = root.resolve(), made.resolve()
        self._lmdbs = {name: value for name, value in sets.items() if isinstance(value, LmdbOptions)}
        self._patterns = {
            name: [str(self._root / expand_user(pattern)) for pattern in _listed(value)]
            for name, value in sets.items()
            if not isinstance(value, LmdbOptions)
        }

    def pair(self, name: str, scale: int) -> LmdbPair:
        """Returns the LMDBs of a data set. They exist after `ready`."""
        if name in self._lmdbs:
            given = self._lmdbs[name]
            gt, lq = (self._root / expand_user(path.format(scale=scale)) for path in (given.gt, given.lq))
            return LmdbPair(gt, lq)
        outputs = PrepareSettings(name, (scale,), crop=0).outputs(self._made / f'x{scale}')
        return LmdbPair(outputs[1], outputs[scale])

    def check(self, scales: Iterable[int]) -> None:
        """Checks the data sets before anything is made.

        Raises:
            CompSRTError: if a data set has no images, or one of its LMDBs does not exist.
        """
        for name in self._patterns:
            self._images(name)
        for name in self._lmdbs:
            for scale in scales:
                pair = self.pair(name, scale)
                for folder in (pair.gt, pair.lq):
                    if not (folder / 'meta_info.txt').is_file():
                        raise CompSRTError(
                            f'The data set `{name}`: `{folder}` is no LMDB; check the path (it starts at --data).'
                        )

    def ready(self, scales: Iterable[int], progress: Progress = SILENT) -> dict[str, dict[str, str]]:
        """Makes the LMDBs that are missing.

        Returns:
            For the training set the images that were left out, and why.

        Raises:
            CompSRTError: if images cannot be used, or have changed since the LMDBs were made.
        """
        skipped = {}
        with locked(self._made / '.lock', f'`{self._made}`', waiting=logger.warning):
            for name in self._patterns:
                folder, changed = self._linked(name)
                for scale in sorted(set(scales)):
                    out, settings = self._made / f'x{scale}', PrepareSettings(name, (scale,), crop=0)
                    if all(path.exists() for path in settings.outputs(out).values()):
                        continue
                    try:
                        result = prepare(
                            folder, out, settings, skip_bad=name == TRAIN, restart=changed, progress=progress
                        )
                    except CompSRTError as error:
                        raise CompSRTError(f'The data set `{name}`: {error}') from error
                    if result.skipped:
                        skipped[name] = result.skipped
        return skipped

    def _images(self, name: str) -> dict[str, Path]:
        """Returns the images of a data set by the names of their links."""
        found: list[Path] = []
        for pattern in self._patterns[name]:
            try:
                if Path(pattern).is_dir():
                    images = list_images(Path(pattern))
                else:
                    images = [path for path in sorted(map(Path, glob.glob(pattern))) if is_listed(path)]
                for path in images:
                    check_file(path)
            except CompSRTError as error:
                raise CompSRTError(f'The data set `{name}`: {error}') from error
            if not images:
                raise CompSRTError(
                    f'The data set `{name}`: no image matches `{pattern}`; check the pattern (it starts at --data).'
                )
            found += images
        return _distinct(list(dict.fromkeys(found)))

    def _linked(self, name: str) -> tuple[Path, bool]:
        """Makes a folder of links to the images of a data set; tells whether they have changed since the last call.

        Images are compared by size and time, not by folder, so that a collection may be moved.
        """
        folder, record = self._made / 'pictures' / name, self._made / 'pictures' / f'{name}.json'
        images = self._images(name)
        states = {link: path.stat() for link, path in images.items()}
        now = {link: [state.st_size, int(state.st_mtime)] for link, state in sorted(states.items())}
        changed = not record.exists() or json.loads(record.read_text(encoding='utf-8')) != now
        scales = [folder.name[1:] for folder in self._made.glob('x*') if folder.name[1:].isdigit()]
        begun = [self.pair(name, int(scale)) for scale in scales]
        if changed and any(pair.gt.exists() or pair.lq.exists() for pair in begun):
            raise CompSRTError(
                f'The images of `{name}` are not those from which `{self._made}` was made: give another -o, or remove '
                'that folder.'
            )
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        for link, image in images.items():
            (folder / link).symlink_to(image.resolve())
        write_text(record, json.dumps(now, indent=1))
        return folder, changed


def _listed(value: list[str] | str) -> list[str]:
    return [value] if isinstance(value, str) else value


def _distinct(images: Sequence[Path]) -> dict[str, Path]:
    """Names images of one folder by their file names, and of several by as many folders as tell them apart.

    Raises:
        CompSRTError: if no number of folders does.
    """
    first = int(len({path.parent for path in images}) > 1)
    for depth in range(first, max(len(path.parts) for path in images) - 1):
        named = {'_'.join(path.parts[1:][-1 - depth :]): path for path in images}
        if len(named) == len(images):
            return named
    raise CompSRTError(
        f'Folders and names of images cannot be told apart, as in `{images[0]}`: rename one of the folders.'
    )
