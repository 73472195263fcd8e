"""Locks between processes: one file each, which the system unlocks when its holder ends, however it ends."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.log import logger

_POLL = 0.1  # seconds
_HELD_ELSEWHERE = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)
_UNKNOWN_TO_DISK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_NO_LINKS = getattr(os, 'O_NOFOLLOW', 0)

if sys.platform == 'win32':
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 2**30, os.SEEK_SET)  # such a lock keeps others from reading, so it lies behind the text
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Busy(CompSRTError):
    """Another process holds the lock."""


@contextmanager
def locked(
    file: str | os.PathLike[str], what: str, *, waiting: Callable[[str], object] | None = None
) -> Iterator[None]:
    """Holds a lock during the block. A killed holder leaves an unlocked file, which the next one takes.

    The file says who holds the lock, and is removed at the end. Missing folders are made, and removed again if the
    block fails and leaves them empty. Where the disk cannot lock, a warning is logged and the block runs.

    Args:
        file: the lock file. Other files of that name must not exist.
        what: what is locked, for messages, such as '`experiments/NAME`'.
        waiting: gets a sentence and makes the call wait for the other process; None refuses instead.

    Raises:
        Busy: if another process, or another thread of this one, holds the lock, and `waiting` is None.
        OSError: if the file cannot be made.
    """
    path = Path(file)
    made = _make_folder(path.parent)
    held = None
    try:
        held = _acquire(path, what, waiting)
        yield
    except BaseException:
        if held is not None:
            held.release()
        for folder in made:
            with suppress(OSError):  # something is in it
                folder.rmdir()
        raise
    held.release()


def holder(file: str | os.PathLike[str]) -> str | None:
    """Returns who holds a lock, as part of a sentence, or None."""
    try:
        descriptor = os.open(file, os.O_RDWR | _NO_LINKS)
    except OSError:
        return None
    try:
        return _named(descriptor) if try_lock(descriptor) is False else None
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool | None:
    """Locks an open file until its descriptor is closed; other descriptors of it can read and write nevertheless.

    Returns:
        Whether it is locked now; None if the disk cannot lock.
    """
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _HELD_ELSEWHERE:
            return False
        if error.errno in _UNKNOWN_TO_DISK:
            return None
        raise
    return True


class _Held:
    """A lock of this process, until `release`."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor, self.path = descriptor, path
        _held.add(self)

    def release(self) -> None:
        """Removes the file while it is locked, then unlocks it: whoever waits for it notices, and makes a new one."""
        if self not in _held:
            return  # a child process forgets the locks of its parent
        _held.discard(self)
        if sys.platform != 'win32' and _is_at(self.descriptor, self.path):
            with suppress(OSError):
                self.path.unlink()
        os.close(self.descriptor)
        if sys.platform == 'win32':
            with suppress(OSError):  # another process has it
                self.path.unlink()


_held: set[_Held] = set()


def _forget() -> None:
    """Closes the files in a child process: a lock must not outlive the process that took it."""
    for held in _held:
        os.close(held.descriptor)
    _held.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget)


def _acquire(path: Path, what: str, waiting: Callable[[str], object] | None) -> _Held:
    announced = ''
    while True:
        descriptor = _opened(path)
        found = try_lock(descriptor)
        if found is None:
            logger.warning('`%s` cannot be locked on this disk: give no second command for it now.', path.parent)
            return _Held(descriptor, path)
        if found:
            if _is_at(descriptor, path) and _sign(descriptor, path):
                return _Held(descriptor, path)
            os.close(descriptor)
            continue
        owner = _named(descriptor)
        os.close(descriptor)
        if waiting is None:
            raise Busy(f'{what} is in use by {owner}: wait until that has finished, or end it.')
        if owner != announced:
            announced = owner
            waiting(f'{what} is in use by {owner}: waiting for it.')
        time.sleep(_POLL)


def _opened(path: Path) -> int:
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINKS, 0o666)
        except FileNotFoundError:  # who failed has removed the folder that it had made
            path.parent.mkdir(parents=True, exist_ok=True)
        except PermissionError:
            if not path.exists():
                raise
            with suppress(FileNotFoundError):  # of another user
                return os.open(path, os.O_RDONLY | _NO_LINKS)


def _is_at(descriptor: int, path: Path) -> bool:
    """Tells whether an open file still has its name: an earlier holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _sign(descriptor: int, path: Path) -> bool:
    """Writes who holds the lock; returns False if the file is another user's and was removed for that."""
    import socket

    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f'{os.getpid()} {socket.gethostname()}\n'.encode())
    except OSError as error:
        if error.errno in (errno.EBADF, errno.EINVAL):  # opened for reading only
            with suppress(OSError):
                path.unlink()
                return False
        # on a full disk the lock holds without a name
    return True


def _named(descriptor: int) -> str:
    """Returns who has signed a lock file."""
    import socket

    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        found = re.fullmatch(rb'(\d{1,20}) ([\w.-]{1,255})\n', os.read(descriptor, 512))
    except OSError:
        found = None
    if found is None:
        return 'another process'
    host = found[2].decode()
    return f'process {found[1].decode()}' + (f' on {host}' if host != socket.gethostname() else '')


def _make_folder(folder: Path) -> list[Path]:
    """Makes a folder; returns the folders that were missing, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing
