"""Get data sets: download, unpack, check, make LMDBs. Each step resumes where it was interrupted.

`plan` lists what would be done, and `ensure` does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compsrt_basicsr.data.catalog import TRAIN, Archive, Dataset, find, load_catalog
from compsrt_basicsr.data.check import pair_errors
from compsrt_basicsr.data.dataset_folder import DatasetFolder, image_errors
from compsrt_basicsr.data.disk_space import images_bytes, lmdb_bytes, planned_lmdb_bytes
from compsrt_basicsr.data.fetch_dataset import (
    FetchOptions,
    cached_archive,
    check_downloadable,
    fetch_images,
    holds_images,
    local_archive,
)
from compsrt_basicsr.data.images import list_images
from compsrt_basicsr.data.prepare import prepare
from compsrt_basicsr.data.prepare_settings import PrepareSettings
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.disk_space import require_space
from compsrt_basicsr.utils.lock import locked
from compsrt_basicsr.utils.progress import SILENT, Progress

SCALES = (2, 3, 4)
DOWNLOAD, UNPACK, COPY, LMDB = 'download', 'unpack', 'copy', 'lmdb'


@dataclass(frozen=True)
class Step:
    """One step of a plan.

    Attributes:
        dataset: name of the data set.
        kind: `download`, `unpack`, `copy` or `lmdb`.
        target: the file or folder that it makes.
        bytes: estimate of what it will write; 0 if that is not known or the step is done.
        done: whether nothing is left to do.
        obstacle: why it cannot be done as requested, as a sentence, or empty.
    """

    dataset: str
    kind: str
    target: Path
    bytes: int
    done: bool
    obstacle: str = ''


@dataclass(frozen=True)
class Ready:
    """A data set that is ready: name, folder of the images, HR and LR LMDB of each scale."""

    name: str
    images: Path
    pairs: dict[int, tuple[Path, Path]]


def plan(
    names: Sequence[str],
    out: Path,
    scales: Iterable[int] = SCALES,
    *,
    source: Path | None = None,
    accept_terms: bool = False,
    lmdb: bool = True,
    catalog: Mapping[str, Dataset] | None = None,
) -> list[Step]:
    """Lists what `ensure` would do, without network access and without writing anything.

    Args:
        names: data sets, in any case.
        out: the folder of data sets.
        scales: factors.
        source: an archive or folder of the user to take a data set from.
        accept_terms: whether the user accepts the terms.
        lmdb: whether LMDBs are wanted.
        catalog: data sets to choose from; None for those of the package and of `$COMPSRT_CATALOG`.

    Returns:
        The steps in their order, including those that are done.

    Raises:
        CompSRTError: if a name or scale is not known.
    """
    scales = _checked_scales(scales)
    steps: list[Step] = []
    planned: set[Path] = set()
    for dataset in find(list(names), load_catalog() if catalog is None else catalog):
        folder = DatasetFolder(dataset, out)
        sound = {scale for scale in scales if lmdb and _is_sound(folder, scale)}
        kept = folder.images.exists() and not image_errors(folder)
        complete = kept or (lmdb and _needs_no_images(folder) and sound == set(scales))
        if holds_images(dataset, source):
            steps.append(_step(dataset, COPY, folder.images, images_bytes(dataset), complete))
        else:
            for archive in dataset.archives:
                steps.append(_download_step(dataset, archive, source, accept_terms, complete, planned))
            steps.append(_step(dataset, UNPACK, folder.images, images_bytes(dataset), complete))
        for target, settings in folder.lmdb_settings(scales) if lmdb else ():
            needed = planned_lmdb_bytes(dataset, settings.scales)
            steps.append(_step(dataset, LMDB, target, needed, sound.issuperset(settings.scales)))
    return steps


def ensure(
    names: Sequence[str],
    out: Path,
    scales: Iterable[int] = SCALES,
    *,
    source: Path | None = None,
    accept_terms: bool = False,
    lmdb: bool = True,
    keep_archives: bool = True,
    force: bool = False,
    restart: bool = False,
    catalog: Mapping[str, Dataset] | None = None,
    progress: Progress = SILENT,
    report: Callable[[str], None] = lambda line: None,
) -> list[Ready]:
    """Makes sure that data sets are where the option files expect them. What is there is kept.

    Called again after an interruption, it resumes. Two processes that get the same data set wait for each other.

    Args:
        names: data sets, in any case.
        out: the folder of data sets; created if missing.
        scales: factors.
        source: an archive or folder of the user to take the data set from; requires a single name.
        accept_terms: whether the user accepts the terms; without it, data sets that require it are not downloaded.
        lmdb: whether LMDBs are made.
        keep_archives: whether downloaded archives stay in the cache.
        force: replace LMDBs that exist.
        restart: discard unfinished LMDBs.
        catalog: data sets to choose from; None for those of the package and of `$COMPSRT_CATALOG`.
        progress: display of downloads and of work on images.
        report: receives a line for each step that starts.

    Returns:
        The data sets in the order of the names.

    Raises:
        CompSRTError: if a step cannot be done; nothing is downloaded if that is known in advance.
    """
    scales = _checked_scales(scales)
    datasets = find(list(names), load_catalog() if catalog is None else catalog)
    if source is not None and len(datasets) != 1:
        raise CompSRTError('--from gives the images of one data set: name one at a time.')
    known = {dataset.name: dataset for dataset in datasets}
    for step in plan(list(known), out, scales, source=source, accept_terms=accept_terms, lmdb=lmdb, catalog=known):
        if step.obstacle:  # now, not after hours of downloading another data set
            raise CompSRTError(step.obstacle)
    options = FetchOptions(source, accept_terms, progress, report)
    ready = []
    for dataset in datasets:
        folder = DatasetFolder(dataset, out)
        folder.refuse_links()
        with locked(folder.path / '.lock', f'`{folder.path}`', waiting=report):
            ready.append(_ensure_one(folder, scales, options, lmdb=lmdb, force=force, restart=restart))
    if not keep_archives:
        for dataset in datasets:
            for archive in dataset.archives:
                cached_archive(archive).unlink(missing_ok=True)
    return ready


def _ensure_one(
    folder: DatasetFolder, scales: Sequence[int], options: FetchOptions, *, lmdb: bool, force: bool, restart: bool
) -> Ready:
    pairs = {scale: folder.pair(scale) for scale in scales} if lmdb else {}
    if force or not (lmdb and _needs_no_images(folder) and all(_is_sound(folder, scale) for scale in scales)):
        fetch_images(folder, options)
        if lmdb:
            _make_lmdbs(folder, scales, options, force=force, restart=restart)
    return Ready(folder.dataset.name, folder.images, pairs)


def _make_lmdbs(
    folder: DatasetFolder, scales: Sequence[int], options: FetchOptions, *, force: bool, restart: bool
) -> None:
    name = folder.dataset.name
    if force and folder.dataset.role == TRAIN:
        scales = sorted({*scales, *folder.present_scales()})  # they share the HR LMDB, so all are replaced
    for target, settings in folder.lmdb_settings(scales):
        if not force and _is_made(folder, target, settings):
            continue
        target.mkdir(exist_ok=True)
        needed = lmdb_bytes(list_images(folder.images), settings) - _unfinished_bytes(target)
        require_space(target, needed, f'Making the LMDBs of {name} for {_scale_text(settings.scales)}')
        options.report(f'{name}: making LMDBs for {_scale_text(settings.scales)}')
        prepare(folder.images, target, settings, force=force, restart=restart, progress=options.progress)


def _is_made(folder: DatasetFolder, target: Path, settings: PrepareSettings) -> bool:
    """Tells whether all LMDBs of one run of `prepare` are there and sound; an interrupted run is not done.

    Raises:
        CompSRTError: if some are there and others not, or one is corrupt: only the user may have them replaced.
    """
    if (target / f'{settings.stem}.partial.json').exists():
        return False
    outputs = settings.outputs(target)
    missing = [path for path in outputs.values() if not path.exists()]
    if len(missing) == len(outputs):
        return False
    if missing:
        raise CompSRTError(
            f'`{missing[0]}` is missing, but the LMDBs that share its HR images exist: give --force to replace all '
            f'LMDBs of `{target}`.'
        )
    errors = [error for scale in settings.scales for error in pair_errors(folder, scale)]
    if errors:
        raise CompSRTError(f'{errors[0]} Give --force to replace the LMDBs of `{target}`.')
    return True


def _needs_no_images(folder: DatasetFolder) -> bool:
    """Tells whether neither images nor a part of them are there: none are needed if all LMDBs are complete."""
    return not (folder.images.exists() or folder.unfinished.exists())


def _is_sound(folder: DatasetFolder, scale: int) -> bool:
    return all(path.exists() for path in folder.pair(scale)) and not pair_errors(folder, scale)


def _unfinished_bytes(folder: Path) -> int:
    found = [path.stat() for path in folder.glob('*.partial.lmdb/data.mdb')]
    return sum(getattr(status, 'st_blocks', 0) * 512 for status in found)  # the files are sparse; Windows has no blocks


def _step(dataset: Dataset, kind: str, target: Path, count: int, done: bool, obstacle: str = '') -> Step:
    return Step(dataset.name, kind, target, 0 if done else count, done, obstacle)


def _download_step(
    dataset: Dataset, archive: Archive, source: Path | None, accept_terms: bool, complete: bool, planned: set[Path]
) -> Step:
    target = cached_archive(archive)
    done = complete or target in planned or target.exists() or local_archive(archive, dataset, source) is not None
    obstacle = ''
    if not done:
        planned.add(target)
        try:
            check_downloadable(dataset, archive, accept_terms)
        except CompSRTError as error:
            obstacle = str(error)
    return _step(dataset, DOWNLOAD, target, archive.bytes, done, obstacle)


def _checked_scales(scales: Iterable[int]) -> tuple[int, ...]:
    checked = tuple(sorted(set(scales)))
    if not checked or checked[0] < 2:
        raise CompSRTError(f'`scale` must be at least 2, got {list(checked)}.')
    return checked


def _scale_text(scales: Iterable[int]) -> str:
    return ', '.join(f'x{scale}' for scale in scales)
