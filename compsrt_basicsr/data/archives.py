"""Taking pictures out of zip and tar archives that nobody vouches for.

Nothing of an archive decides where is written: the wanted members become files of one folder, called by the last part
of their path. The whole archive is read through and judged before the first byte is written.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.atomic_write import atomic_path
from compsrt_basicsr.utils.disk_space import require_space
from compsrt_basicsr.utils.progress import SILENT, Progress

_BLOCK = 2**20
_HEADERS = 8 * 2**20  # bytes that the headers of one tar member may take; tarfile holds them in memory
_LEAST_RATIO_CHECKED = 64 * 2**20  # bytes; what unpacks to less is no bomb
_OPENERS = {'gz': gzip.open, 'bz2': bz2.open, 'xz': lzma.open}
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError)


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most.

    Attributes:
        unpacked: bytes of the wanted members.
        members: members in all.
        ratio: bytes unpacked, of all members, for a byte of the archive; archives unpacking to little are exempt.
    """

    unpacked: int
    members: int = 200_000
    ratio: int = 100


@dataclass(frozen=True)
class Member:
    """A file in an archive, while it is being visited.

    Attributes:
        name: its path.
        size: bytes that it declares.
        crc: its CRC-32 where the archive states it.
        open: opens it for reading.
        repeatable: whether it can be opened twice.
    """

    name: str
    size: int
    crc: int | None
    open: Callable[[], BinaryIO]
    repeatable: bool = True


def survey(archive: Path, wanted: Callable[[str], bool], limits: Limits) -> dict[str, int]:
    """Reads an archive through without unpacking it.

    Args:
        archive: a zip, or a tar that may be compressed with gzip, bzip2 or xz.
        wanted: whether a member, given by its path, is to be taken out.
        limits: what it may hold.

    Returns:
        Bytes of each wanted file by the name it will get.

    Raises:
        CompSRTError: the archive is damaged, hostile or larger than it may be.
    """
    found: dict[str, int] = {}
    folded: dict[str, str] = {}
    total = unpacked = 0
    with _faults(archive):
        ratio_limit = max(limits.ratio * archive.stat().st_size, _LEAST_RATIO_CHECKED)
        for number, member in enumerate(_members(archive, ratio_limit), start=1):
            if number > limits.members:
                raise CompSRTError(f'`{archive}` is refused: it has more than {limits.members:,} members.')
            total += member.size
            if total > ratio_limit:
                raise _bomb(archive, ratio_limit)
            if not wanted(member.name):
                continue
            name = _file_name(member.name)
            if name.casefold() in folded:
                other = folded[name.casefold()]
                raise CompSRTError(f'`{archive}` is refused: `{other}` and `{member.name}` would be one file.')
            folded[name.casefold()] = member.name
            found[name] = member.size
            unpacked += member.size
            if unpacked > limits.unpacked:
                raise CompSRTError(
                    f'`{archive}` is refused: it unpacks to more than the {limits.unpacked:,} bytes that its pictures '
                    'may have.'
                )
    return found


def extract(
    archive: Path,
    target: Path,
    wanted: Callable[[str], bool],
    limits: Limits,
    *,
    progress: Progress = SILENT,
) -> list[str]:
    """Takes the wanted members out, each as one file of `target`; what is there and right is kept.

    Args:
        archive: a zip, or a tar that may be compressed with gzip, bzip2 or xz.
        target: the folder, made if missing; no link.
        wanted: whether a member, given by its path, is to be taken out.
        limits: what it may hold.
        progress: display of the work.

    Returns:
        Names of the files, also of those that were there already.

    Raises:
        CompSRTError: see `survey`; or the disk has too little space, checked before anything is written.
    """
    sizes = survey(archive, wanted, limits)
    if target.is_symlink():
        raise CompSRTError(f'`{target}` is a link, through which nothing is unpacked: remove it.')
    target.mkdir(parents=True, exist_ok=True)
    _require_space(archive, target, sizes)
    with _faults(archive), progress.start(f'unpack {archive.name}', len(sizes), 'image') as bar:
        ratio_limit = max(limits.ratio * archive.stat().st_size, _LEAST_RATIO_CHECKED)
        for member in _members(archive, ratio_limit):
            if wanted(member.name):
                _write(member, target / _file_name(member.name))
                bar.update()
    return list(sizes)


def _write(member: Member, file: Path) -> None:
    """Writes one file, which gets its name when it is complete; one that is there and equal is kept."""
    alike = member.repeatable and _is_file(file) and file.stat().st_size == member.size
    if alike and file_crc(file) == _member_crc(member):
        return
    with atomic_path(file) as partial:
        with partial.open('wb') as out, member.open() as stream:
            written = 0
            while block := stream.read(_BLOCK):
                written += len(block)
                if written > member.size:
                    break
                out.write(block)
        if written != member.size:
            raise EOFError(f'{member.name} has not the {member.size:,} bytes that it declares')


def _member_crc(member: Member) -> int:
    if member.crc is not None:
        return member.crc
    with member.open() as stream:
        return _stream_crc(stream)


def file_crc(file: Path) -> int:
    """CRC-32 of a file's content."""
    with file.open('rb') as stream:
        return _stream_crc(stream)


def _stream_crc(stream: BinaryIO) -> int:
    crc = 0
    while block := stream.read(_BLOCK):
        crc = zlib.crc32(block, crc)
    return crc


def _is_file(path: Path) -> bool:
    """Whether a path is a file and no link to one."""
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def _file_name(member: str) -> str:
    return unicodedata.normalize('NFC', member.rsplit('/', 1)[-1])


def _require_space(archive: Path, target: Path, sizes: dict[str, int]) -> None:
    needed = sum(size for name, size in sizes.items() if not (target / name).exists())
    require_space(target, needed, f'Unpacking `{archive.name}`')


def _members(archive: Path, most: int) -> Iterator[Member]:
    """Visits the files of an archive in its order, refusing what no honest archive of pictures holds.

    Args:
        archive: the file.
        most: bytes that a compressed tar may unpack to.
    """
    with archive.open('rb') as stream:
        magic = stream.read(6)
        if zipfile.is_zipfile(stream) and magic[:2] == b'PK':
            yield from _zip_members(archive)
            return
    kinds = {b'\x1f\x8b': 'gz', b'BZh': 'bz2', b'\xfd7zXZ\0': 'xz'}
    kind = next((kind for start, kind in kinds.items() if magic.startswith(start)), None)
    yield from _tar_members(archive, kind, most)


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        infos = file.infolist()
        if sum(info.compress_size for info in infos) > archive.stat().st_size:
            raise CompSRTError(f'`{archive}` is refused: its members overlap.')
        for info in infos:
            _check_name(archive, info.filename)
            mode = stat.S_IFMT(info.external_attr >> 16)
            if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise CompSRTError(f'`{archive}` is refused: `{info.filename}` is a link or a device.')
            if info.flag_bits & 1:
                raise CompSRTError(f'`{archive}` is encrypted: unpack it yourself and give the folder.')
            if not info.is_dir():
                yield Member(info.filename, info.file_size, info.CRC, lambda info=info: file.open(info))


def _tar_members(archive: Path, kind: str | None, most: int) -> Iterator[Member]:
    with contextlib.ExitStack() as stack:
        if kind:
            stream = _Unpacked(stack.enter_context(_OPENERS[kind](archive, 'rb')), archive, most)
            file = stack.enter_context(tarfile.open(fileobj=stream, mode='r|'))
        else:
            stream = stack.enter_context(_Plain(archive, 'rb'))
            file = stack.enter_context(tarfile.open(fileobj=stream, mode='r:'))
        while (info := file.next()) is not None:
            _check_name(archive, info.name)
            if not (info.isreg() or info.isdir()) or info.issparse():
                raise CompSRTError(f'`{archive}` is refused: `{info.name}` is a link, a device or a sparse file.')
            if hasattr(tarfile, 'data_filter'):  # a second opinion, where this Python has it
                try:
                    tarfile.data_filter(info, str(archive.parent))
                except tarfile.FilterError as error:
                    raise CompSRTError(f'`{archive}` is refused: {error}.') from error
            stream.allow(info.size)
            if info.isreg():
                yield Member(info.name, info.size, None, lambda info=info: file.extractfile(info), kind is None)
        stream.finish()


def _check_name(archive: Path, name: str) -> None:
    parts = re.split(r'[\\/]', name)
    if name.startswith(('/', '\\')) or re.match('[A-Za-z]:', name):
        raise CompSRTError(f'`{archive}` is refused: `{name}` is an absolute path.')
    if '..' in parts:
        raise CompSRTError(f'`{archive}` is refused: `{name}` leads out of its folder.')
    if '\\' in name or any(unicodedata.category(character) in ('Cc', 'Cs') for character in name):
        raise CompSRTError(f'`{archive}` is refused: the name {name!r} holds characters that no file name should.')


class _Plain(io.FileIO):
    """An uncompressed tar; headers that would fill the memory are refused."""

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0 or size > _HEADERS:
            raise tarfile.ReadError('a header is longer than any honest one')
        return super().read(size)

    def allow(self, size: int) -> None:
        """Needs no word of the next member: it seeks."""

    def finish(self) -> None:
        """Has no checksum at its end."""


class _Unpacked:
    """The bytes of a compressed tar, read once from the front and never more than allowed."""

    def __init__(self, stream: BinaryIO, archive: Path, most: int) -> None:
        self._stream, self._archive, self._most = stream, archive, most
        self._position, self._allowed = 0, _HEADERS

    def allow(self, size: int) -> None:
        """Lets a member's content and the next headers be read."""
        self._allowed = self._position + size + _HEADERS

    def finish(self) -> None:
        """Reads on to the end, where the checksum is compared."""
        self._allowed = self._most
        while self.read(_BLOCK):
            pass

    def read(self, size: int) -> bytes:
        block = self._stream.read(size)
        self._position += len(block)
        if self._position > self._most:
            raise _bomb(self._archive, self._most)
        if self._position > self._allowed:
            raise tarfile.ReadError('a header is longer than any honest one')
        return block


def _bomb(archive: Path, most: int) -> CompSRTError:
    return CompSRTError(
        f'`{archive}` is refused: it unpacks to more than {most:,} bytes, far more than pictures of its size do.'
    )


@contextlib.contextmanager
def _faults(archive: Path) -> Iterator[None]:
    """Turns what the readers raise on damaged archives, and a full disk, into sentences."""
    try:
        yield
    except CompSRTError:
        raise
    except _BROKEN as error:
        raise CompSRTError(
            f'`{archive}` is damaged or cut short ({error}): remove it and give the command again.'
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CompSRTError(
                f'The disk is full while `{archive.name}` is unpacked: free some space and give the same command '
                'again, it goes on where it stopped.'
            ) from error
        if error.errno is None:  # gzip and bz2 report damage so
            raise CompSRTError(
                f'`{archive}` is damaged or cut short ({error}): remove it and give the command again.'
            ) from error
        raise
