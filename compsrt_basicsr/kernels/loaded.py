"""The loaded kernel library, and calls of its functions on several threads."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from compsrt_basicsr.kernels import build
from compsrt_basicsr.kernels.signatures import bind
from compsrt_basicsr.utils.log import logger

_PARTS = 4  # for each thread
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


def passed(right: bool, what: str) -> bool:
    """Returns the result of a self-test; warns that torch is used instead if the kernels are wrong."""
    if not right:
        logger.warning(f'{what} by the C++ kernels: wrong on this machine, torch is used instead.')
    return right


def in_threads(run: Callable[[int, int], None], total: int, least: int) -> None:
    """Calls run(begin, end) for parts of range(total) on as many threads as torch uses; ctypes releases the GIL.

    This thread works too, and each takes the next part when it is done with one. A thread that comes late, as beside
    another program, therefore finds less or nothing to do, and nobody waits for it.
    """
    most = torch.get_num_threads()
    threads = min(most, total // least)
    if threads <= 1:
        return run(0, total)
    size = max(total // (_PARTS * threads * least), 1) * least
    begins = iter(range(0, total, size))  # shared: under the GIL no two threads get the same number

    def work() -> None:
        for begin in begins:
            run(begin, min(begin + size, total))

    helpers = [_pool(os.getpid(), most).submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Returns this process's thread pool; the process id is in the cache key because threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix='compsrt')


def at(tensor: Tensor | None) -> int | None:
    """Returns the address of a tensor's first element, None for None."""
    return None if tensor is None else tensor.data_ptr()
