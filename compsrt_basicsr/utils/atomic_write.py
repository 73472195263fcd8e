"""Atomic file writes: a name holds either its old content or all of the new one."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from compsrt_basicsr.utils.disk_space import is_disk_full
from compsrt_basicsr.utils.lock import try_lock

_LONGEST_SUFFIX = 16  # characters; a longer one is part of a title, and the temporary name must not become too long
_TEMPORARY = re.compile(r'\.compsrt-[0-9a-f]{16}(\..*)?', re.DOTALL)
_DAY = 24 * 3600  # seconds, after which a temporary file is a leftover where the disk cannot lock
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK)
_GRACE = 10.0  # seconds in which a writer that replaced the temporary file, as linkers do, gives it its name
_cleared: set[str] = set()
_unfinished: set[Path] = set()


def unfinished() -> list[Path]:
    """Returns the temporary files of this process."""
    return list(_unfinished)


@contextmanager
def atomic_path(file: str | os.PathLike[str], *, replace: bool = True) -> Iterator[Path]:
    """Gives a temporary path to write to; when the block ends without an error, it replaces `file`.

    The temporary file is hidden, lies beside `file`, ends like it (some libraries choose the format by the suffix), and
    has the permissions of a plainly opened file. After an error it is removed, and `file` is as it was. What a killed
    process leaves is removed by the next process that writes into the folder.

    Args:
        file: the file to write; its folder must exist.
        replace: whether `file` may exist.

    Yields:
        The temporary path of an empty file. Whoever writes there may replace that file, but must leave one.

    Raises:
        FileExistsError: `file` exists and `replace` is false.
        OSError: the file cannot be written; the error names `file`.
    """
    target = Path(file)
    folder = os.path.abspath(target.parent)
    if folder not in _cleared:
        _cleared.add(folder)
        clear_leftovers(folder, _GRACE)
    temporary = target
    descriptor = -1
    try:
        while descriptor < 0:
            temporary = target.with_name(f'.compsrt-{secrets.token_hex(8)}{target.suffix[:_LONGEST_SUFFIX]}')
            descriptor = _created(temporary)
        _unfinished.add(temporary)
        yield temporary
        with open(temporary, 'rb+') as stream:
            os.fsync(stream.fileno())
        if sys.platform == 'win32':
            os.close(descriptor)  # an open file cannot be renamed there
            descriptor = -1
        _name(temporary, target, replace)
    except OSError as error:
        if error.filename == str(temporary) or (error.filename is None and is_disk_full(error)):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        with suppress(OSError):  # after a replacement there is nothing left to remove
            if temporary != target:
                temporary.unlink()
        _unfinished.discard(temporary)


def clear_leftovers(folder: str | os.PathLike[str], untouched: float = 0.0) -> None:
    """Removes the temporary files that killed processes have left in a folder, and none that is being written.

    Args:
        folder: the folder, without those inside it; it need not exist.
        untouched: seconds since the last change of a file that is removed.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):  # it is gone already, or of another user
                    _remove_leftover(entry.path, untouched)


def write_bytes(file: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file atomically.

    Raises:
        OSError: the file cannot be written; what stood there is untouched.
    """
    with atomic_path(file) as temporary:
        temporary.write_bytes(data)


def write_text(file: str | os.PathLike[str], text: str) -> None:
    """Writes a file atomically, in UTF-8 and with the line ends of `text`.

    Raises:
        OSError: the file cannot be written; what stood there is untouched.
    """
    write_bytes(file, text.encode())


def copy_file(source: Path, target: Path) -> None:
    """Copies the content of a file atomically.

    Raises:
        OSError: `source` cannot be read, or `target` cannot be written; what stood there is untouched.
    """
    # Not shutil.copyfile, whose errors name the source as the place that is full.
    with source.open('rb') as read, atomic_path(target) as temporary, temporary.open('wb') as write:
        shutil.copyfileobj(read, write, 2**20)


def _created(temporary: Path) -> int:
    """Makes a file and locks it as a sign that its writer lives; returns its descriptor, or -1 if another took it."""
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    if try_lock(descriptor) is False or (sys.platform != 'win32' and not os.fstat(descriptor).st_nlink):
        os.close(descriptor)  # `clear_leftovers` came between
        return -1
    return descriptor


def _remove_leftover(path: str, untouched: float) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, 'O_NOFOLLOW', 0))
    try:
        free = try_lock(descriptor)
        age = time.time() - os.fstat(descriptor).st_mtime
        free = age > _DAY if free is None else free and age >= untouched
        if free and sys.platform != 'win32':
            os.unlink(path)
    finally:
        os.close(descriptor)
    if free and sys.platform == 'win32':
        os.unlink(path)


def _name(temporary: Path, target: Path, replace: bool) -> None:
    """Gives the temporary file its name; two processes that may not replace cannot both succeed."""
    if replace:
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        os.replace(temporary, target)
