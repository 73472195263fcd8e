"""Disk space: how much is free, and whether that is enough."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from compsrt_basicsr.errors import CompSRTError


def size_text(count: float) -> str:
    """Returns a number of bytes for people, such as `3.5 GB`."""
    for unit in ('bytes', 'kB', 'MB', 'GB'):
        if count < 1000:
            return f'{count:.0f} {unit}' if unit == 'bytes' or count >= 10 else f'{count:.1f} {unit}'
        count /= 1000
    return f'{count:.1f} TB'


def free_bytes(folder: Path) -> int:
    """Returns the free bytes of the disk that holds a folder.

    Args:
        folder: an existing folder.

    Raises:
        OSError: the folder does not exist.
    """
    return shutil.disk_usage(folder).free


def require_space(folder: Path, needed: int, what: str) -> None:
    """Makes sure that a disk has room.

    Args:
        folder: an existing folder on the disk.
        needed: bytes.
        what: start of the sentence, such as 'Unpacking `DIV2K.zip`'.

    Raises:
        CompSRTError: the disk has fewer free bytes.
    """
    free = free_bytes(folder)
    if free < needed:
        raise CompSRTError(
            f'{what} needs {_both(needed)} and the disk that holds `{folder}` has {_both(free)} free: free some space '
            'and give the command again.'
        )


def is_disk_full(error: OSError) -> bool:
    """Returns whether an error means that the disk, or the user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _both(count: int) -> str:
    return f'about {size_text(count)} ({count:,} bytes)' if count >= 1000 else size_text(count)
