"""Choose the size of tiles by the memory at hand: larger ones spend less work on their overlap."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.tiling import OVERLAP, TILE, spans
from compsrt_basicsr.inference.upscale import DTYPES, device_of
from compsrt_basicsr.utils.process_memory import forget_peak, free_bytes, give_back, resident

LARGEST = 512  # pixels; beyond it, little is left to save
_SIZES = (LARGEST, 384, TILE, 192, 128)
_TRIALS = (64, 128)  # pixels of the runs that are measured
_SHARE = 0.5  # of the free memory; the rest is for the image, its result, and what an estimate misses


def fitting_tile(model: LoadedNetwork, longest: int, dtype: str = 'float32') -> int:
    """Returns the largest tile that half of the free memory holds, as two small runs of the network tell.

    Args:
        model: the network, which computes as it will for the images.
        longest: longest side of all images, in pixels; where one default tile covers them, nothing is measured.
        dtype: as in `UpscaleSettings`.

    Returns:
        Pixels; the default `TILE` where the system does not tell what is free or used, the smallest where none fits.
    """
    if longest <= TILE:
        return TILE
    free = free_memory(device_of(model))
    used = [memory_of(model, side, dtype) for side in _TRIALS]
    if free is None or None in used:
        return TILE
    sizes = [size for size in _SIZES if _is_possible(size, model.multiple)]
    fitting = [size for size in sizes if needed(size, [bytes_ or 0 for bytes_ in used]) <= _SHARE * free]
    return max(fitting, default=min(sizes, default=TILE))


def needed(size: int, used: list[int]) -> float:
    """Returns the bytes that a tile needs, from those of the trials.

    Memory grows with the area; where attention sees the whole tile, faster, at most with the square of the area.
    """
    small, large = (max(bytes_, 1) for bytes_ in used)
    areas = (_TRIALS[1] / _TRIALS[0]) ** 2
    growth = min(max(math.log(large / small, areas), 1.0), 2.0)
    return float(large * (size / _TRIALS[1]) ** (2 * growth))


def free_memory(device: torch.device) -> int | None:
    """Returns the bytes that are free on a device; None if nothing tells."""
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    return free_bytes() if device.type == 'cpu' else None


def memory_of(model: LoadedNetwork, side: int, dtype: str) -> int | None:
    """Returns the bytes that a network needs beyond its weights for an image of `side` pixels, rounded up to windows.

    Returns None if nothing tells. A second run is measured: the first one prepares what later ones keep.
    """
    side += -side % model.multiple
    image = torch.rand(1, model.channels, side, side, device=device_of(model))
    kind = DTYPES[dtype]

    def run() -> None:
        with torch.no_grad(), torch.autocast(device_of(model).type, dtype=kind, enabled=kind != torch.float32):
            model.network(image)

    try:
        run()
        return _peak(run, device_of(model))
    except Exception:  # of any kind, a lack of memory included: the images themselves will tell what is wrong
        return None


def _peak(run: Callable[[], None], device: torch.device) -> int | None:
    """Returns the bytes that a call holds at its peak beyond those before it."""
    if device.type == 'cuda':
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    give_back()  # else a run may take what earlier ones have left
    before_it = resident('VmRSS')
    if device.type != 'cpu' or before_it is None or not forget_peak():
        return None
    run()
    peak = resident('VmHWM')
    return None if peak is None else max(peak - before_it, 0)


def _is_possible(size: int, multiple: int) -> bool:
    try:
        spans(size + 1, size, OVERLAP, multiple)
    except CompSRTError:
        return False
    return True
