"""Keeps the thread's alternate stack for signals, where a library replaces it and gives it back in the wrong order."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (('address', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t))


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Puts the thread's alternate signal stack back afterwards; does nothing on systems other than Linux.

    Every CPU plugin of OpenVINO maps a stack of its own, and when it goes, puts back the one that it found, which may
    be that of a plugin unmapped before. The next signal, be it the end of a child process, is then written on whatever
    lies there. A plugin that no longer finds its own stack puts nothing back.
    """
    if sys.platform != 'linux':
        yield
        return
    libc, stack = ctypes.CDLL(None), _Stack()
    libc.sigaltstack(None, ctypes.byref(stack))
    try:
        yield
    finally:
        # Refused on a processor with AMX if the stack is too small for its registers: then the new one stays.
        libc.sigaltstack(ctypes.byref(stack), None)
