"""From archives, or a folder of the user's, to the complete and checked pictures of a data set."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compsrt_basicsr.data.archives import Limits, extract, file_crc
from compsrt_basicsr.data.catalog import Archive, Dataset, Part
from compsrt_basicsr.data.layout import Layout, picture_faults, read_record, write_record
from compsrt_basicsr.data.pictures import check_pictures, list_pictures
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.checksum import verify
from compsrt_basicsr.hub.download import download
from compsrt_basicsr.hub.home import home
from compsrt_basicsr.utils.atomic_write import atomic_path
from compsrt_basicsr.utils.disk_space import require_space, size_text
from compsrt_basicsr.utils.progress import SILENT, Progress

_ROOM = 64 * 2**20  # bytes that a small data set may have more than foreseen
_LARGEST_BYTES_PER_PIXEL = 8


@dataclass(frozen=True)
class Means:
    """How pictures are got, and who is told.

    Attributes:
        source: an archive or a folder of the user's to take them from, or None.
        accept_terms: the user's word that terms are accepted.
        progress: display of downloads and of work on pictures.
        report: is given a line for each step.
    """

    source: Path | None = None
    accept_terms: bool = False
    progress: Progress = SILENT
    report: Callable[[str], None] = lambda line: None


def cached(archive: Archive) -> Path:
    """Where an archive is kept."""
    return home() / 'archives' / archive.name


def gather(layout: Layout, means: Means) -> None:
    """Makes sure that all pictures of a data set lie in its folder `HR`; what is there is kept.

    Raises:
        CompSRTError: terms not accepted, no address, a failed download, a damaged or hostile archive, pictures that
            cannot be read or are not as many as there should be, or too little disk space.
    """
    dataset = layout.dataset
    if layout.pictures.exists():
        faults = picture_faults(layout)
        if not faults:
            if read_record(layout) is None:
                _check(layout, layout.pictures, means)
                write_record(layout, layout.pictures)
            return
        foreign = faults if read_record(layout) is None else [fault for fault in faults if fault.endswith('besides')]
        if foreign:
            raise CompSRTError(
                f'`{layout.pictures}` {foreign[0]}, so it is not {dataset.name} as known here: put that right or move '
                'the folder away.'
            )
        means.report(f'{dataset.name}: `{layout.pictures}` {faults[0]}; it is mended')
    folder = means.source if holds_pictures(dataset, means.source) else None
    archives = [] if folder else [(part, _obtain(dataset, part, means)) for part in dataset.parts]
    if layout.pictures.exists():
        if layout.unfinished.exists():
            shutil.rmtree(layout.unfinished)
        os.replace(layout.pictures, layout.unfinished)
    layout.unfinished.mkdir(exist_ok=True)
    if folder:
        _copy(dataset, folder, layout.unfinished, means)
    else:
        _unpack(dataset, archives, layout.unfinished, means)
    _check(layout, layout.unfinished, means)
    write_record(layout, layout.unfinished)
    os.replace(layout.unfinished, layout.pictures)


def local_archive(archive: Archive, dataset: Dataset, source: Path | None) -> Path | None:
    """The user's own file of an archive, or None.

    Raises:
        CompSRTError: `source` is not there, or is one file where several archives are needed.
    """
    if source is None:
        return None
    if source.is_dir():
        file = source / archive.name
        return file if file.is_file() else None
    if not source.is_file():
        raise CompSRTError(f'`{source}`, given with --from, does not exist.')
    if len(dataset.parts) > 1:
        names = ', '.join(part.archive.name for part in dataset.parts)
        raise CompSRTError(f'{dataset.name} is made of {names}: give the folder that holds them with --from.')
    return source


def holds_pictures(dataset: Dataset, source: Path | None) -> bool:
    """Whether the user's folder holds pictures, not archives."""
    if source is None or not source.is_dir():
        return False
    return not any(local_archive(part.archive, dataset, source) for part in dataset.parts)


def demand_means(dataset: Dataset, archive: Archive, accept_terms: bool) -> None:
    """Makes sure that an archive may and can be downloaded.

    Raises:
        CompSRTError: its terms are not accepted, or it has no address.
    """
    if not archive.urls:
        raise CompSRTError(
            f'{dataset.name} has no address to download from ({dataset.licence}; terms: {dataset.terms}): '
            f'{dataset.ask or "get it from its authors"}. Then give --from FILE_OR_FOLDER, or put the archive at '
            f'`{cached(archive)}`.'
        )
    if dataset.consent and not accept_terms:
        raise CompSRTError(
            f'{dataset.name} has terms ({dataset.licence}): read {dataset.terms} and give --accept-terms if you '
            'accept them.'
        )


def _obtain(dataset: Dataset, part: Part, means: Means) -> Path:
    """The complete and verified file of an archive."""
    archive = part.archive
    file = local_archive(archive, dataset, means.source)
    if file is None:
        file = cached(archive)
        if not file.exists():
            demand_means(dataset, archive, means.accept_terms)
            means.report(f'{dataset.name}: {archive.name} is downloaded ({_known_size(archive)})')
            if archive.size is None and archive.about:
                file.parent.mkdir(parents=True, exist_ok=True)
                part_file = file.with_name(f'{file.name}.part')
                here = part_file.stat().st_size if part_file.exists() else 0
                require_space(file.parent, archive.about - here, f'Downloading {archive.name}')
        download(archive.fetched(), file, what=archive.name, progress=means.progress)
    else:
        verify(archive.fetched(), file, what=archive.name)
    if archive.md5 and archive.sha256 is None:
        _verify_md5(archive, file)
    return file


def _known_size(archive: Archive) -> str:
    if archive.size:
        return size_text(archive.size)
    return f'about {size_text(archive.about)}' if archive.about else 'of unknown size'


def _verify_md5(archive: Archive, file: Path) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with file.open('rb') as stream:
        while block := stream.read(2**20):
            digest.update(block)
    if digest.hexdigest() != archive.md5:
        raise CompSRTError(
            f'`{file}` is not {archive.name}: its MD5 is {digest.hexdigest()}, not {archive.md5}; remove the file and '
            'give the command again.'
        )


def _unpack(dataset: Dataset, archives: list[tuple[Part, Path]], target: Path, means: Means) -> None:
    room = int(dataset.megapixels * 1e6 * _LARGEST_BYTES_PER_PIXEL) + _ROOM
    owners: dict[str, Path] = {}
    for part, file in archives:
        means.report(f'{dataset.name}: {file.name} is unpacked')
        names = extract(file, target, part.wants, Limits(room), progress=means.progress)
        if len(names) != part.count:
            raise CompSRTError(
                f'`{file}` holds {len(names)} pictures `{part.members}`, not {part.count}: it is cut short or another '
                f'archive than {part.archive.name}; remove `{target}` and give the right one.'
            )
        for name in names:
            if name in owners:
                raise CompSRTError(f'`{owners[name]}` and `{file}` both hold `{name}`, so they cannot be joined.')
            owners[name] = file


def _copy(dataset: Dataset, source: Path, target: Path, means: Means) -> None:
    pictures = list_pictures(source)
    if len(pictures) != dataset.count:
        raise CompSRTError(
            f'`{source}` holds {len(pictures)} pictures, {dataset.name} has {dataset.count}: give the folder that '
            'holds exactly these.'
        )
    todo = [path for path in pictures if not _is_copy(path, target / path.name)]
    require_space(target, sum(path.stat().st_size for path in todo), f'Copying the pictures of {dataset.name}')
    means.report(f'{dataset.name}: the pictures of `{source}` are copied')
    for path in means.progress.track(todo, 'copy', 'image'):
        with atomic_path(target / path.name) as partial:
            shutil.copyfile(path, partial)


def _is_copy(path: Path, copy: Path) -> bool:
    if copy.is_symlink() or not copy.is_file() or copy.stat().st_size != path.stat().st_size:
        return False
    return file_crc(copy) == file_crc(path)


def _check(layout: Layout, folder: Path, means: Means) -> None:
    """Decodes all pictures and counts them."""
    dataset, pictures = layout.dataset, list_pictures(folder)
    bad = check_pictures(pictures, 1, means.progress)
    if bad:
        name, reason = next(iter(bad.items()))
        raise CompSRTError(
            f'{len(bad)} of the pictures in `{folder}` cannot be used, the first: {name} {reason}. Mend or remove '
            'them and give the command again.'
        )
    if len(pictures) != dataset.count:
        raise CompSRTError(
            f'`{folder}` holds {len(pictures)} pictures, {dataset.name} has {dataset.count}: remove the folder and '
            'give the command again.'
        )
