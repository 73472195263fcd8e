"""The rates of multiplication that a processor reaches, measured on the spot."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from compsrt_basicsr.inference.timing import alternate_calls
from compsrt_basicsr.kernels import loaded

_SIDE = 1024  # of the float matrices
_TRIES = 7  # the best counts: other processes only slow it down
_ROUNDS = 1 << 22  # of products of codes


def float_peak(threads: int) -> float:
    """Returns the multiplications a second of a large product of float32 matrices in torch."""
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        left, right = torch.rand(2, _SIDE, _SIDE)
        return _SIDE**3 / _least_seconds(lambda: left @ right)
    finally:
        torch.set_num_threads(usual)


def code_peak(threads: int) -> float | None:
    """Returns the multiplications a second of codes that stay in registers; None without kernels.

    It is the limit of the instructions that the kernels of integer execution use, whatever the number of bits.
    """
    library = loaded.kernels()
    if library is None:
        return None
    with ThreadPoolExecutor(threads) as pool:
        counts: list[int] = []

        def run() -> None:
            counts[:] = pool.map(library.cs_peak, [_ROUNDS] * threads)

        seconds = _least_seconds(run)
    return sum(counts) / seconds


def _least_seconds(function: Callable[[], object]) -> float:
    return min(alternate_calls({'alone': function}, _TRIES)['alone'])
