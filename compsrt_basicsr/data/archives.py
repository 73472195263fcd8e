"""Unpack images from zip and tar archives of unknown origin.

The wanted members become files of one folder, named by the last part of their path, so that no path in an archive
decides where a file is written. The whole archive is checked before the first byte is written.

`zipfile` and `tarfile` do the reading: they compare checksums and lengths, and the `data` filter of `tarfile` refuses
devices and links that lead out. Checked here is what they leave open: names, sizes, and the memory that headers take.
Python before 3.10.12 and 3.11.4 lacks the filter. Links and devices are then skipped, as only regular files are read.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO, Any

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.atomic_write import atomic_path
from compsrt_basicsr.utils.disk_space import is_disk_full, require_space
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory
from compsrt_basicsr.utils.progress import SILENT, Progress

MOST_MEMBERS = 200_000
MOST_RATIO = 100  # bytes unpacked, of all members, per byte of the archive
_ALWAYS_ALLOWED = 64 * 2**20  # bytes unpacked, whatever the ratio
_BLOCK = 2**20
_OPENERS: dict[bytes, Callable[..., Any]] = {b'\x1f\x8b': gzip.open, b'BZh': bz2.open, b'\xfd7zXZ\0': lzma.open}
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError,
           RecursionError)  # fmt: skip


@dataclass(frozen=True)
class _Member:
    """A file in an archive: its path, the bytes that it declares, and what opens it."""

    path: str
    size: int
    open: Callable[[], IO[bytes]]


def extract(
    archive: Path,
    target: Path,
    wanted: Callable[[str], bool],
    most_bytes: int,
    *,
    progress: Progress = SILENT,
) -> list[str]:
    """Unpacks the wanted members, each to one file of `target`. Files that are there with the right content are kept.

    Args:
        archive: a zip, or a tar that may be compressed with gzip, bzip2 or xz.
        target: the folder, created if missing; no link.
        wanted: whether a member, given by its path, is wanted.
        most_bytes: limit for the sum of the wanted files.
        progress: display of the work.

    Returns:
        Names of the files, including those that were there already.

    Raises:
        CompSRTError: if the archive is damaged, hostile or larger than allowed, or the disk has too little space.
            Sizes, names and space are checked before anything is written.
    """
    sizes = _checked_sizes(archive, target, wanted, most_bytes)
    if target.is_symlink():
        raise CompSRTError(f'`{target}` is a link, through which nothing is unpacked: remove it.')
    target.mkdir(parents=True, exist_ok=True)
    needed = sum(size for name, size in sizes.items() if not (target / name).exists())
    require_space(target, needed, f'Unpacking `{archive.name}`')
    with _reading(archive, target), progress.start(f'unpack {archive.name}', len(sizes), 'image') as bar:
        for member in _members(archive, target):
            if wanted(member.path):
                _write(member, target / _file_name(member.path))
                bar.update()
    return list(sizes)


def _checked_sizes(archive: Path, target: Path, wanted: Callable[[str], bool], most_bytes: int) -> dict[str, int]:
    """Reads an archive through; returns the bytes of each wanted file by the name that it will get."""
    sizes: dict[str, int] = {}
    owners: dict[str, str] = {}
    total = wanted_total = 0
    with _reading(archive, target):
        for number, member in enumerate(_members(archive, target), start=1):
            total += member.size
            if number > MOST_MEMBERS:
                raise CompSRTError(f'`{archive}` is refused: it has more than {MOST_MEMBERS:,} members.')
            if total > _most_unpacked(archive):
                raise _bomb(archive)
            if not wanted(member.path):
                continue
            name = _file_name(member.path)
            if name.casefold() in owners:
                raise CompSRTError(
                    f'`{archive}` is refused: `{owners[name.casefold()]}` and `{member.path}` would be one file.'
                )
            owners[name.casefold()] = member.path
            sizes[name] = member.size
            wanted_total += member.size
            if wanted_total > most_bytes:
                raise CompSRTError(
                    f'`{archive}` is refused: its images have more than the {most_bytes:,} bytes that they may have.'
                )
    return sizes


def _write(member: _Member, file: Path) -> None:
    """Writes one file, which gets its name when it is complete; an equal one is kept."""
    with member.open() as stream:
        if _is_file(file) and file.stat().st_size == member.size:
            if _equal(stream, file):
                return
            stream.seek(0)
        with atomic_path(file) as temporary, temporary.open('wb') as out:
            shutil.copyfileobj(stream, out, _BLOCK)


def _equal(stream: IO[bytes], file: Path) -> bool:
    with file.open('rb') as other:
        while block := stream.read(_BLOCK):
            if block != other.read(len(block)):
                return False
    return True


def _is_file(path: Path) -> bool:
    """Tells whether a path is a file and no link to one."""
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def _file_name(member: str) -> str:
    return unicodedata.normalize('NFC', member.rsplit('/', 1)[-1])


def _members(archive: Path, target: Path) -> Iterator[_Member]:
    """Visits the files of an archive in its order, and refuses what no honest archive of images holds."""
    with archive.open('rb') as stream:
        magic = stream.read(6)
    if magic[:2] == b'PK':
        yield from _zip_members(archive)
    else:
        opener = next((opener for start, opener in _OPENERS.items() if magic.startswith(start)), open)
        yield from _tar_members(archive, target, opener)


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            _check_path(archive, info.filename)
            if info.flag_bits & 1:
                raise CompSRTError(f'`{archive}` is encrypted: unpack it yourself and give the folder.')
            if not info.is_dir():
                yield _Member(info.filename, info.file_size, partial(file.open, info))


def _tar_members(archive: Path, target: Path, opener: Callable[..., Any]) -> Iterator[_Member]:
    with opener(archive, 'rb') as stream, tarfile.open(fileobj=_SmallReads(stream), mode='r:') as file:
        while (info := file.next()) is not None:
            _check_path(archive, info.name)
            if hasattr(tarfile, 'data_filter'):
                try:
                    tarfile.data_filter(info, str(target))
                except tarfile.FilterError as error:
                    raise CompSRTError(f'`{archive}` is refused: {error}.') from error
            if info.isreg():
                yield _Member(info.name, info.size, partial(_open_member, file, info))
        while stream.read(_BLOCK):  # the checksum is at the end
            if stream.tell() > _most_unpacked(archive):
                raise _bomb(archive)


def _open_member(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = file.extractfile(info)
    assert stream is not None  # of a regular file
    return stream


class _SmallReads:
    """A stream of which no more than 1 MiB is read at once: `tarfile` holds the headers of a member in memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _BLOCK:
            raise tarfile.ReadError('a header is longer than 1 MiB')
        return self._stream.read(size)


def _check_path(archive: Path, name: str) -> None:
    path = PureWindowsPath(name)  # takes `/` and `\` for separators, and knows drives
    if path.anchor:
        raise CompSRTError(f'`{archive}` is refused: `{name}` is an absolute path.')
    if '..' in path.parts:
        raise CompSRTError(f'`{archive}` is refused: `{name}` leads out of its folder.')
    if '\\' in name or any(unicodedata.category(character) in ('Cc', 'Cs') for character in name):
        raise CompSRTError(f'`{archive}` is refused: the name {name!r} holds characters that no file name should have.')


def _most_unpacked(archive: Path) -> int:
    return max(MOST_RATIO * archive.stat().st_size, _ALWAYS_ALLOWED)


def _bomb(archive: Path) -> CompSRTError:
    return CompSRTError(
        f'`{archive}` is refused: it unpacks to more than {_most_unpacked(archive):,} bytes, far more than images of '
        'its size do.'
    )


@contextlib.contextmanager
def _reading(archive: Path, target: Path) -> Iterator[None]:
    """Turns what the readers raise on damaged archives, and a full disk, into one sentence."""
    try:
        yield
    except _DAMAGE as error:
        if is_out_of_memory(error):
            raise
        raise _damaged(archive, error) from error
    except OSError as error:
        if is_out_of_memory(error):
            raise
        if is_disk_full(error):
            raise CompSRTError(
                f'The disk that holds `{target}` is full while `{archive.name}` is unpacked: free some space and give '
                'the same command again, it resumes where it stopped.'
            ) from error
        if error.errno is not None:
            raise
        raise _damaged(archive, error) from error  # from gzip or bz2


def _damaged(archive: Path, error: Exception) -> CompSRTError:
    return CompSRTError(f'`{archive}` is damaged or truncated ({error}): remove it and give the command again.')
