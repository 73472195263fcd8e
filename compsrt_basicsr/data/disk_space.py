"""Estimates of the disk space that the steps of `compsrt data get` need."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from compsrt_basicsr.data.catalog import Dataset
from compsrt_basicsr.data.images import decoded
from compsrt_basicsr.data.prepare_settings import PrepareSettings, window_corners

# Bytes of a photograph's PNG per pixel: DIV2K's 3.53 GB of 2.2 gigapixels make 1.6; LMDBs hold PNGs that are compressed
# faster and less. If the estimate is too low, the full disk stops the work, which can be resumed.
BYTES_PER_PIXEL = 1.8
_OVERLAP = 0.85  # part of (crop / step)^2 that images of 2K have: their borders have fewer neighbours


def images_bytes(dataset: Dataset) -> int:
    """Estimates the bytes of the images of a data set."""
    return int(dataset.megapixels * 1e6 * BYTES_PER_PIXEL)


def planned_lmdb_bytes(dataset: Dataset, scales: Iterable[int]) -> int:
    """Estimates the bytes of one HR LMDB and an LR LMDB for each scale, before the images are there."""
    overlap = _OVERLAP * (dataset.crop / dataset.step) ** 2 if dataset.crop else 1.0
    return int(images_bytes(dataset) * max(overlap, 1.0) * (1 + sum(scale**-2 for scale in scales)))


def lmdb_bytes(images: Iterable[Path], settings: PrepareSettings) -> int:
    """Estimates the bytes of the LMDBs of some images; reads headers only."""
    pixels = 0
    for path in images:
        width, height = decoded(path, lambda image, is_whole: image.size)
        if not settings.crop:
            pixels += height * width
        elif min(height, width) >= settings.crop:
            pixels += len(window_corners(height, width, settings.crop, settings.step)) * settings.crop**2
    return int(pixels * BYTES_PER_PIXEL * (1 + sum(scale**-2 for scale in settings.scales)))
