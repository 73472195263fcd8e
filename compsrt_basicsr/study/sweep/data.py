"""The data of a grid: LMDBs that are there, or made once from pictures into the grid's folder."""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from compsrt_basicsr.data.pictures import EXTENSIONS
from compsrt_basicsr.data.prepare import PrepareSettings, prepare
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.spec import TRAIN
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.progress import SILENT, Progress


@dataclass(frozen=True)
class Pair:
    """A pair of LMDBs."""

    gt: Path
    lq: Path

    def fingerprint(self) -> dict[str, Any]:
        """How many pictures there are, and the SHA-256 of the list of their names and sizes."""
        listing = (self.gt / 'meta_info.txt').read_bytes()
        return {'pictures': len(listing.splitlines()), 'sha256': hashlib.sha256(listing).hexdigest()}

    def options(self) -> dict[str, Any]:
        """Options of a data set of BasicSR."""
        roots = {'dataroot_gt': str(self.gt), 'dataroot_lq': str(self.lq)}
        return {'type': 'PairedImageDataset', **roots, 'io_backend': {'type': 'lmdb'}}


class DataSets:
    """The sets of a grid file.

    Args:
        sets: {name: folder of pictures, pattern, list of patterns, or {gt, lq}}; `{scale}` stands for the scale.
        root: where relative paths start.
        made: folder for the LMDBs that are made.
    """

    def __init__(self, sets: Mapping[str, Any], root: Path, made: Path) -> None:
        self._root, self._made = root.resolve(), made.resolve()
        self._lmdbs = {name: self._given(name, value) for name, value in sets.items() if isinstance(value, Mapping)}
        self._patterns = {name: self._listed(name, value) for name, value in sets.items() if name not in self._lmdbs}

    def pair(self, name: str, scale: int) -> Pair:
        """The LMDBs of a set, which `ready` makes sure of."""
        if name in self._lmdbs:
            return Pair(*(self._root / Path(path.format(scale=scale)).expanduser() for path in self._lmdbs[name]))
        outputs = self._settings(name, scale).outputs(self._made / f'x{scale}')
        return Pair(outputs[1], outputs[scale])

    def check(self, scales: Iterable[int]) -> None:
        """Finds what is missing before anything is made.

        Raises:
            CompSRTError: a set has no pictures, or its LMDBs are not there.
        """
        for name in self._patterns:
            self._pictures(name)
        for name in self._lmdbs:
            for scale in scales:
                pair = self.pair(name, scale)
                for folder in (pair.gt, pair.lq):
                    if not (folder / 'meta_info.txt').is_file():
                        raise CompSRTError(
                            f'The data set `{name}`: `{folder}` is no LMDB; check the path (it starts at --data).'
                        )

    def ready(self, scales: Iterable[int], progress: Progress = SILENT) -> dict[str, dict[str, str]]:
        """Makes the LMDBs that are made of pictures, those that lack.

        Returns:
            Pictures of the training set that were left out, and why.

        Raises:
            CompSRTError: pictures cannot be used, or changed since the LMDBs were made.
        """
        skipped = {}
        self._made.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self._made / '.lock'):
            for name in self._patterns:
                folder, changed = self._linked(name)
                for scale in sorted(set(scales)):
                    out, settings = self._made / f'x{scale}', self._settings(name, scale)
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

    def _given(self, name: str, value: Mapping[str, Any]) -> tuple[str, str]:
        if set(value) != {'gt', 'lq'} or not all(isinstance(path, str) for path in value.values()):
            raise CompSRTError(
                f'`datasets.{name}` must name the LMDBs `gt` and `lq`, or pictures; got {dict(value)!r}.'
            )
        return value['gt'], value['lq']

    def _listed(self, name: str, value: Any) -> list[str]:
        patterns = [value] if isinstance(value, str) else value
        if not isinstance(patterns, Sequence) or not patterns or not all(isinstance(p, str) for p in patterns):
            raise CompSRTError(
                f'`datasets.{name}` must be a folder of pictures, a pattern, or a list of them, got {value!r}.'
            )
        return [str(self._root / Path(pattern).expanduser()) for pattern in patterns]

    def _pictures(self, name: str) -> dict[str, Path]:
        """The pictures of a set by the name of their link, which tells the folder where there are several."""
        found: list[Path] = []
        for pattern in self._patterns[name]:
            pattern = f'{pattern}/*' if Path(pattern).is_dir() else pattern
            files = sorted(Path(path) for path in glob.glob(pattern))
            pictures = [path for path in files if path.suffix.lower() in EXTENSIONS and path.is_file()]
            if not pictures:
                raise CompSRTError(
                    f'The data set `{name}`: no picture matches `{pattern}`; check it (it starts at --data).'
                )
            found += [path for path in pictures if path not in found]
        return _distinct(found)

    def _linked(self, name: str) -> tuple[Path, bool]:
        """A folder of links to the pictures of a set, and whether they are others than at the last call.

        Sizes and times of the pictures tell, not their folder: a moved collection is the same.
        """
        folder, record = self._made / 'pictures' / name, self._made / 'pictures' / f'{name}.json'
        pictures = self._pictures(name)
        states = {link: path.stat() for link, path in pictures.items()}
        now = {link: [state.st_size, int(state.st_mtime)] for link, state in sorted(states.items())}
        changed = not record.exists() or json.loads(record.read_text(encoding='utf-8')) != now
        if changed and any(pair.gt.exists() or pair.lq.exists() for pair in self._begun(name)):
            raise CompSRTError(
                f'The pictures of `{name}` are not those that `{self._made}` was made of: give another -o, or remove '
                'that folder.'
            )
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        for link, picture in pictures.items():
            (folder / link).symlink_to(picture.resolve())
        write_text(record, json.dumps(now, indent=1))
        return folder, changed

    def _begun(self, name: str) -> list[Pair]:
        """The LMDBs of a set of pictures at every scale that this folder has."""
        scales = (folder.name[1:] for folder in self._made.glob('x*'))
        return [self.pair(name, int(scale)) for scale in scales if scale.isdigit()]

    @staticmethod
    def _settings(name: str, scale: int) -> PrepareSettings:
        return PrepareSettings(name, (scale,), crop=0)


def _distinct(pictures: Sequence[Path]) -> dict[str, Path]:
    """Pictures of one folder by name, those of several by as many folders before it as tell them apart.

    Raises:
        CompSRTError: no number of folders does.
    """
    first = int(len({path.parent for path in pictures}) > 1)
    for depth in range(first, max(len(path.parts) for path in pictures) - 1):
        named = {'_'.join(path.parts[1:][-1 - depth :]): path for path in pictures}
        if len(named) == len(pictures):
            return named
    raise CompSRTError(f'Folders and names of pictures run together, as in `{pictures[0]}`: rename one of the folders.')
