"""The loaded kernel library, and calls of its functions on several threads."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from compsrt_basicsr.kernels import build
from compsrt_basicsr.kernels.signatures import bind

_other_build: ctypes.CDLL | None = None


@lru_cache(maxsize=1)
def kernels() -> ctypes.CDLL | None:
    """Returns the kernel library, compiled on first use; None if there is none on this machine."""
    return bind(_other_build) if _other_build else build.compiled()


@contextmanager
def other_build(library: ctypes.CDLL) -> Iterator[None]:
    """Makes layers that are prepared inside this context use another build of the kernels, such as a profiled one."""
    global _other_build
    _other_build = library
    kernels.cache_clear()
    try:
        yield
    finally:
        _other_build = None
        kernels.cache_clear()


def in_threads(run: Callable[[int, int], None], total: int, least: int) -> None:
    """Calls run(begin, end) for parts of range(total) on as many threads as torch uses; ctypes releases the GIL."""
    most = torch.get_num_threads()
    threads = max(1, min(most, total // least))
    if threads == 1:
        return run(0, total)
    ends = [total * i // threads for i in range(threads + 1)]
    list(_pool(os.getpid(), most).map(run, ends, ends[1:]))


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Returns this process's thread pool; the process id is in the cache key because threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix='compsrt')


def at(tensor: Tensor | None) -> int | None:
    """Returns the address of a tensor's first element, None for None."""
    return None if tensor is None else tensor.data_ptr()
