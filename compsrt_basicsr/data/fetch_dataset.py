"""Fetch the images of a data set from archives, or from a folder of the user, and check them."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compsrt_basicsr.data.archives import extract
from compsrt_basicsr.data.catalog import Archive, ArchiveImages, Dataset
from compsrt_basicsr.data.dataset_folder import DatasetFolder, image_errors, read_record, write_record
from compsrt_basicsr.data.images import check_file, check_images, list_images
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.checksum import verify
from compsrt_basicsr.hub.download import download
from compsrt_basicsr.hub.home import home
from compsrt_basicsr.utils.atomic_write import copy_file
from compsrt_basicsr.utils.disk_space import require_space, size_text
from compsrt_basicsr.utils.progress import SILENT, Progress
from compsrt_basicsr.utils.text import counted

_ROOM = 64 * 2**20  # bytes that a small data set may exceed its estimate by
_LARGEST_BYTES_PER_PIXEL = 8


@dataclass(frozen=True)
class FetchOptions:
    """Where images come from, and who is informed.

    Attributes:
        source: an archive or a folder of the user to take them from, or None.
        accept_terms: whether the user accepts the terms.
        progress: display of downloads and of work on images.
        report: receives a line for each step.
    """

    source: Path | None = None
    accept_terms: bool = False
    progress: Progress = SILENT
    report: Callable[[str], None] = lambda line: None


def cached_archive(archive: Archive) -> Path:
    """Returns where an archive is kept."""
    return home() / 'archives' / archive.name


def fetch_images(folder: DatasetFolder, options: FetchOptions) -> None:
    """Makes sure that all images of a data set lie in its folder `HR`. What is there is kept.

    Raises:
        CompSRTError: if terms are not accepted, there is no address, a download fails, an archive is damaged or
            hostile, images cannot be read, their number is wrong, or the disk has too little space.
    """
    if folder.images.exists():
        if _is_complete(folder, options):
            return
        _require_own_images(folder, options)
    dataset = folder.dataset
    own = options.source if holds_images(dataset, options.source) else None
    archives = [] if own else [(images, _obtain(dataset, images.archive, options)) for images in dataset.images]
    if folder.images.exists():
        if folder.unfinished.exists():
            shutil.rmtree(folder.unfinished)
        os.replace(folder.images, folder.unfinished)
    folder.unfinished.mkdir(exist_ok=True)
    for leftover in folder.unfinished.glob('.*'):  # half-written files of a killed run
        if not leftover.is_dir():
            leftover.unlink()
    if own:
        _copy(dataset, own, folder.unfinished, options)
    else:
        _unpack(dataset, archives, folder.unfinished, options)
    _check(dataset, folder.unfinished, options)
    write_record(folder, folder.unfinished)
    os.replace(folder.unfinished, folder.images)


def _is_complete(folder: DatasetFolder, options: FetchOptions) -> bool:
    """Tells whether the images that are there are those of the data set; records them if they are not recorded yet."""
    if image_errors(folder):
        return False
    if read_record(folder) is None:
        _check(folder.dataset, folder.images, options)
        write_record(folder, folder.images)
    return True


def _require_own_images(folder: DatasetFolder, options: FetchOptions) -> None:
    """Refuses to replace images that no earlier run has put there; reports what will be replaced.

    Raises:
        CompSRTError: if the folder has other images, or there is no record.
    """
    errors, recorded = image_errors(folder), read_record(folder)
    foreign = errors if recorded is None else [error for error in errors if error.startswith('also has ')]
    if foreign:
        raise CompSRTError(
            f'`{folder.images}` {foreign[0]}, so it is not {folder.dataset.name} as known here: correct that, or move '
            'the folder away.'
        )
    options.report(f'{folder.dataset.name}: repairing `{folder.images}`, which {errors[0]}')


def local_archive(archive: Archive, dataset: Dataset, source: Path | None) -> Path | None:
    """Returns the user's own file of an archive, or None.

    Raises:
        CompSRTError: if `source` does not exist, or is one file where several archives are needed.
    """
    if source is None:
        return None
    if source.is_dir():
        file = source / archive.name
        return file if file.is_file() else None
    if not source.is_file():
        raise CompSRTError(f'`{source}`, given with --from, does not exist.')
    if len(dataset.archives) > 1:
        names = ', '.join(archive.name for archive in dataset.archives)
        raise CompSRTError(f'{dataset.name} consists of {names}: give the folder that holds them with --from.')
    return source


def holds_images(dataset: Dataset, source: Path | None) -> bool:
    """Tells whether the user's folder holds images, not archives."""
    if source is None or not source.is_dir():
        return False
    return not any(local_archive(archive, dataset, source) for archive in dataset.archives)


def check_downloadable(dataset: Dataset, archive: Archive, accept_terms: bool) -> None:
    """Makes sure that an archive may and can be downloaded.

    Raises:
        CompSRTError: if its terms are not accepted, or it has no address.
    """
    if not archive.urls:
        raise CompSRTError(
            f'{dataset.name} has no address to download from ({dataset.licence}; terms: {dataset.terms}): '
            f'{dataset.ask or "get it from its authors"}. Then give --from FILE_OR_FOLDER, or put the archive at '
            f'`{cached_archive(archive)}`.'
        )
    if dataset.consent and not accept_terms:
        raise CompSRTError(
            f'{dataset.name} has terms ({dataset.licence}): read {dataset.terms} and give --accept-terms if you '
            'accept them.'
        )


def _obtain(dataset: Dataset, archive: Archive, options: FetchOptions) -> Path:
    """Returns the complete and verified file of an archive, downloading it if necessary."""
    file = local_archive(archive, dataset, options.source)
    if file is None:
        file = cached_archive(archive)
        if not file.exists():
            check_downloadable(dataset, archive, options.accept_terms)
            options.report(f'{dataset.name}: downloading {archive.name} ({_known_size(archive)})')
            if archive.size is None and archive.about:
                file.parent.mkdir(parents=True, exist_ok=True)
                part = file.with_name(f'{file.name}.part')
                here = part.stat().st_size if part.exists() else 0
                require_space(file.parent, archive.about - here, f'Downloading {archive.name}')
        download(archive.fetched(), file, what=archive.name, progress=options.progress)
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


def _unpack(dataset: Dataset, archives: list[tuple[ArchiveImages, Path]], target: Path, options: FetchOptions) -> None:
    most_bytes = int(dataset.megapixels * 1e6 * _LARGEST_BYTES_PER_PIXEL) + _ROOM
    owners: dict[str, Path] = {}
    for images, file in archives:
        options.report(f'{dataset.name}: unpacking {file.name}')
        names = extract(file, target, images.wants, most_bytes, progress=options.progress)
        if len(names) != images.count:
            raise CompSRTError(
                f'`{file}` holds {counted(len(names), "image")} `{images.members}`, not {images.count}: '
                f'it is truncated or not {images.archive.name}; remove `{target}` and give the right one.'
            )
        for name in names:
            if name in owners:
                raise CompSRTError(f'`{owners[name]}` and `{file}` both hold `{name}`, so they cannot be joined.')
            owners[name] = file


def _copy(dataset: Dataset, source: Path, target: Path, options: FetchOptions) -> None:
    images = list_images(source)
    if len(images) != dataset.count:
        raise CompSRTError(
            f'`{source}` holds {counted(len(images), "image")}, {dataset.name} has {dataset.count}: give the folder '
            'that holds exactly these.'
        )
    for path in images:
        check_file(path)
    todo = [path for path in images if not _is_copy(path, target / path.name)]
    require_space(target, sum(path.stat().st_size for path in todo), f'Copying the images of {dataset.name}')
    options.report(f'{dataset.name}: copying the images of `{source}`')
    for path in options.progress.track(todo, 'copy', 'image'):
        copy_file(path, target / path.name)


def _is_copy(path: Path, copy: Path) -> bool:
    return copy.is_file() and not copy.is_symlink() and filecmp.cmp(path, copy, shallow=False)


def _check(dataset: Dataset, folder: Path, options: FetchOptions) -> None:
    """Decodes all images and counts them."""
    images = list_images(folder)
    bad = check_images(images, 1, options.progress)
    if bad:
        name, reason = next(iter(bad.items()))
        raise CompSRTError(
            f'{len(bad)} of {counted(len(images), "image")} in `{folder}` cannot be used, the first: {name} {reason}. '
            'Fix or remove them and give the command again.'
        )
    if len(images) != dataset.count:
        raise CompSRTError(
            f'`{folder}` holds {counted(len(images), "image")}, {dataset.name} has {dataset.count}: remove the folder '
            'and give the command again.'
        )
