"""The memory of a process: what it uses and keeps, and what is free, as Linux says; None elsewhere."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

from compsrt_basicsr.utils.control_groups import group_folders

_RESET = Path('/proc/self/clear_refs')
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of `mallopt`
_OWN = ('MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_', 'GLIBC_TUNABLES')  # with which users set them


def resident(key: str, process: int | str = 'self') -> int | None:
    """Returns the resident bytes of a process now (VmRSS) or at the peak (VmHWM).

    Args:
        key: 'VmRSS' or 'VmHWM'.
        process: its number; this process by default.

    Returns:
        Bytes; None if the system is not Linux, or the process has ended.
    """
    return _kilobytes(Path(f'/proc/{process}/status'), key)


def forget_peak() -> bool:
    """Resets the peak on Linux, where loading would hide a small run; returns whether that worked."""
    try:
        _RESET.write_text('5')
    except OSError:
        return False
    return True


def give_back() -> None:
    """Gives memory that GNU's C library keeps for later back to the system; other ones keep little."""
    if library := _gnu_library('malloc_trim'):
        library.malloc_trim(0)


def _gnu_library(function: str) -> ctypes.CDLL | None:
    """Returns the C library if it has a function of GNU's."""
    if sys.platform != 'linux':
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, function) else None


def keep() -> None:
    """Keeps freed memory for the next tensor in this process. Call it before torch is imported.

    By itself, GNU's C library gives blocks of more than 32 MB back to the system, which clears the pages of the next
    tensor one by one: at 512x512 pixels, SwinIR-light then takes 2.4 times as long. With large pages in torch, all
    tensors start at multiples of 2 MB, so that one fits where another was. Settings of the user win.
    """
    os.environ.setdefault('THP_MEM_ALLOC_ENABLE', '1')
    if not any(name in os.environ for name in _OWN) and (library := _gnu_library('mallopt')):
        for parameter, bytes_ in ((_MMAP_THRESHOLD, 2**30), (_TRIM_THRESHOLD, 2**31 - 1)):
            library.mallopt(parameter, bytes_)


def free_bytes(root: Path = Path('/')) -> int | None:
    """Returns the bytes that this process can still take without swapping; None where the system does not say.

    Args:
        root: folder that holds Linux's `proc` and `sys`.
    """
    free = _kilobytes(root / 'proc/meminfo', 'MemAvailable')
    left = [room for folder in group_folders('memory', root) if (room := _room(folder)) is not None]
    return None if free is None else max(min([free, *left]), 0)


def _kilobytes(file: Path, key: str) -> int | None:
    try:
        found = re.search(rf'^{key}:\s+(\d+) kB$', file.read_text(errors='replace'), re.M)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _room(folder: Path) -> int | None:
    """Returns what the limit of a control group leaves; files that the system keeps in memory count as free."""
    for limit, usage in (('memory.max', 'memory.current'), ('memory.limit_in_bytes', 'memory.usage_in_bytes')):
        try:
            most, used = ((folder / name).read_text().strip() for name in (limit, usage))
            files = re.search(r'^inactive_file (\d+)$', (folder / 'memory.stat').read_text(), re.M)
        except OSError:
            continue
        if most.isdigit() and used.isdigit():
            return int(most) - int(used) + (int(files[1]) if files else 0)
    return None
