"""Getting data sets: download, unpack, check, lay out, make LMDBs. Each step goes on where it was interrupted.

`plan` says what would be done and `ensure` does it; other parts of the program call both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock

from compsrt_basicsr.data.catalog import TRAIN, Archive, Dataset, find, load_catalog
from compsrt_basicsr.data.check import pair_faults
from compsrt_basicsr.data.disk_space import lmdb_bytes, pictures_bytes, planned_lmdb_bytes
from compsrt_basicsr.data.fetch_dataset import Means, cached, demand_means, gather, holds_pictures, local_archive
from compsrt_basicsr.data.layout import Layout, picture_faults
from compsrt_basicsr.data.pictures import list_pictures
from compsrt_basicsr.data.prepare import PrepareSettings, prepare
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.disk_space import require_space
from compsrt_basicsr.utils.progress import SILENT, Progress

SCALES = (2, 3, 4)
DOWNLOAD, UNPACK, COPY, LMDB = 'download', 'unpack', 'copy', 'lmdb'


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        dataset: name of the data set.
        kind: `download`, `unpack`, `copy` or `lmdb`.
        target: the file or folder that it makes.
        bytes: what it will write, roughly; 0 if that is not known or the step is done.
        done: whether nothing is left to do.
        obstacle: why it cannot be done as asked, as a sentence, or empty.
    """

    dataset: str
    kind: str
    target: Path
    bytes: int
    done: bool
    obstacle: str = ''


@dataclass(frozen=True)
class Ready:
    """A data set that is there: name, folder of the pictures, HR and LR LMDB of each scale asked for."""

    name: str
    pictures: Path
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
    """Says what `ensure` would do; asks no network and writes nothing.

    Args:
        names: data sets, whatever the case.
        out: the folder of data sets.
        scales: factors.
        source: an archive or folder of the user's to take a data set from.
        accept_terms: the user's word that terms are accepted.
        lmdb: whether LMDBs are wanted.
        catalog: data sets to choose from; None for those of the package and of `$COMPSRT_CATALOG`.

    Returns:
        The steps in their order, also those that are done.

    Raises:
        CompSRTError: a name or scale is not known.
    """
    scales = _checked_scales(scales)
    steps: list[Step] = []
    planned: set[Path] = set()
    for dataset in find(list(names), load_catalog() if catalog is None else catalog):
        layout = Layout(dataset, out)
        sound = {scale for scale in scales if _is_sound(layout, scale)} if lmdb else set()
        kept = layout.pictures.exists() and not picture_faults(layout)
        complete = kept or (lmdb and _needs_no_pictures(layout) and sound == set(scales))
        if holds_pictures(dataset, source):
            steps.append(_step(dataset, COPY, layout.pictures, pictures_bytes(dataset), complete))
        else:
            for part in dataset.parts:
                steps.append(_download_step(dataset, part.archive, source, accept_terms, complete, planned))
            steps.append(_step(dataset, UNPACK, layout.pictures, pictures_bytes(dataset), complete))
        for folder, settings in layout.jobs(scales) if lmdb else ():
            needed = planned_lmdb_bytes(dataset, settings.scales)
            steps.append(_step(dataset, LMDB, folder, needed, sound.issuperset(settings.scales)))
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
    """Makes sure that data sets are there as the option files expect them; what is there is kept.

    Interrupted at any point, it goes on when called again. Two processes on one data set wait for each other.

    Args:
        names: data sets, whatever the case.
        out: the folder of data sets; made if missing.
        scales: factors.
        source: an archive or folder of the user's to take the one data set named from.
        accept_terms: the user's word that terms are accepted; without it, data sets that have terms are not downloaded.
        lmdb: whether LMDBs are made.
        keep_archives: whether downloaded archives stay in the cache.
        force: make LMDBs anew.
        restart: throw unfinished LMDBs away.
        catalog: data sets to choose from; None for those of the package and of `$COMPSRT_CATALOG`.
        progress: display of downloads and of work on pictures.
        report: is given a line for each step that is begun.

    Returns:
        What is there now, in the order of the names.

    Raises:
        CompSRTError: anything that the user can mend, in one sentence.
    """
    scales = _checked_scales(scales)
    datasets = find(list(names), load_catalog() if catalog is None else catalog)
    if source is not None and len(datasets) != 1:
        raise CompSRTError('--from gives the pictures of one data set: name one at a time.')
    known = {dataset.name: dataset for dataset in datasets}
    for step in plan(list(known), out, scales, source=source, accept_terms=accept_terms, lmdb=lmdb, catalog=known):
        if step.obstacle:  # before the first data set has been downloaded for hours
            raise CompSRTError(step.obstacle)
    means = Means(source, accept_terms, progress, report)
    ready = []
    for dataset in datasets:
        layout = Layout(dataset, out)
        layout.refuse_links()
        layout.folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(layout.folder / '.lock'):
            ready.append(_ensure_one(layout, scales, means, lmdb=lmdb, force=force, restart=restart))
    if not keep_archives:
        for dataset in datasets:
            for part in dataset.parts:
                cached(part.archive).unlink(missing_ok=True)
    return ready


def _ensure_one(
    layout: Layout, scales: Sequence[int], means: Means, *, lmdb: bool, force: bool, restart: bool
) -> Ready:
    pairs = {scale: layout.pair(scale) for scale in scales} if lmdb else {}
    if force or not (lmdb and _needs_no_pictures(layout) and all(_is_sound(layout, scale) for scale in scales)):
        gather(layout, means)
        if lmdb:
            _make_lmdbs(layout, scales, means, force=force, restart=restart)
    return Ready(layout.dataset.name, layout.pictures, pairs)


def _make_lmdbs(layout: Layout, scales: Sequence[int], means: Means, *, force: bool, restart: bool) -> None:
    if force and layout.dataset.role == TRAIN:
        scales = sorted({*scales, *layout.present_scales()})  # they share the HR LMDB, so all are made anew
    for folder, settings in layout.jobs(scales):
        if not force and _is_made(layout, folder, settings):
            continue
        folder.mkdir(exist_ok=True)
        needed = lmdb_bytes(list_pictures(layout.pictures), settings) - _unfinished_bytes(folder)
        what = f'Making the LMDBs of {layout.dataset.name} for {_scale_text(settings.scales)}'
        require_space(folder, needed, what)
        means.report(f'{layout.dataset.name}: LMDBs for {_scale_text(settings.scales)} are made')
        prepare(layout.pictures, folder, settings, force=force, restart=restart, progress=means.progress)


def _is_made(layout: Layout, folder: Path, settings: PrepareSettings) -> bool:
    """Whether all LMDBs of a job are there and sound; a run that was interrupted is not done.

    Raises:
        CompSRTError: some are there and others not, or one is corrupt: only the user may have them replaced.
    """
    if (folder / f'{settings.stem}.partial.json').exists():
        return False
    outputs = settings.outputs(folder)
    lacking = [path for path in outputs.values() if not path.exists()]
    if len(lacking) == len(outputs):
        return False
    if lacking:
        raise CompSRTError(
            f'`{lacking[0]}` is missing beside others, with which it shares the HR pictures: give --force to make all '
            f'LMDBs of `{folder}` anew.'
        )
    faults = [fault for scale in settings.scales for fault in pair_faults(layout, scale)]
    if faults:
        raise CompSRTError(f'{faults[0]} Give --force to make the LMDBs of `{folder}` anew.')
    return True


def _needs_no_pictures(layout: Layout) -> bool:
    """Whether there are no pictures, nor a part of them: none are needed if all LMDBs are there."""
    return not (layout.pictures.exists() or layout.unfinished.exists())


def _is_sound(layout: Layout, scale: int) -> bool:
    return all(path.exists() for path in layout.pair(scale)) and not pair_faults(layout, scale)


def _unfinished_bytes(folder: Path) -> int:
    found = [path.stat() for path in folder.glob('*.partial.lmdb/data.mdb')]
    return sum(getattr(status, 'st_blocks', 0) * 512 for status in found)  # the files are sparse; Windows has no blocks


def _step(dataset: Dataset, kind: str, target: Path, count: int, done: bool, obstacle: str = '') -> Step:
    return Step(dataset.name, kind, target, 0 if done else count, done, obstacle)


def _download_step(
    dataset: Dataset, archive: Archive, source: Path | None, accept_terms: bool, complete: bool, planned: set[Path]
) -> Step:
    target = cached(archive)
    done = complete or target in planned or target.exists() or local_archive(archive, dataset, source) is not None
    obstacle = ''
    if not done:
        planned.add(target)
        try:
            demand_means(dataset, archive, accept_terms)
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
