"""Whether compiled kernels may be loaded: nobody else may have written them, and a cut library ends the process."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

_ELF, _HEADER, _PROGRAM = b'\x7fELF', 64, 56  # bytes of the headers of 64-bit ELF
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def secure_folder(folder: Path) -> None:
    """Creates a folder that only its owner can write; takes the right to write in an own folder from others.

    Raises:
        OSError: if the folder cannot be created, belongs to another user (not root), or stays writable for others.
    """
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not hasattr(os, 'geteuid'):
        return
    status = folder.stat()
    if status.st_uid == os.geteuid() and status.st_mode & _OTHERS_WRITE:
        keep_others_out(folder)
        status = folder.stat()
    if not _is_ours(status):
        raise PermissionError(
            f'`{folder}` belongs to another user or can be written by others, who could put code there: '
            'set $COMPSRT_HOME to a folder of your own'
        )


def is_ours(file: Path) -> bool:
    """Returns whether a plain file belongs to this user or to root, and nobody else can write it.

    Raises:
        OSError: if there is none.
    """
    status = file.lstat()
    return stat.S_ISREG(status.st_mode) and (not hasattr(os, 'geteuid') or _is_ours(status))


def keep_others_out(path: Path) -> None:
    """Takes the right to write from everybody but the owner."""
    path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS_WRITE)


def is_whole(library: bytes) -> bool:
    """Returns whether a library has all bytes that its ELF headers name; other formats are checked by the system.

    Linux maps a cut library without a word, and the first access beyond its end is a SIGBUS.
    """
    if not library.startswith(_ELF) or library[4:5] != b'\x02':
        return True
    if len(library) < _HEADER:
        return False
    order = '<' if library[5] == 1 else '>'
    programs, sections = struct.unpack_from(f'{order}QQ', library, 32)
    program_size, program_count, section_size, section_count = struct.unpack_from(f'{order}HHHH', library, 54)
    if max(programs + program_size * program_count, sections + section_size * section_count) > len(library):
        return False
    starts = range(programs, programs + program_size * program_count, max(program_size, 1))
    segments = [struct.unpack_from(f'{order}IIQQQQ', library, start) for start in starts if program_size >= _PROGRAM]
    return all(offset + size <= len(library) for _, _, offset, _, _, size in segments)


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & _OTHERS_WRITE
