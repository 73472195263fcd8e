"""Estimates of the disk space that the steps of `compsrt data get` need."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from compsrt_basicsr.data.catalog import Dataset
from compsrt_basicsr.data.prepare import PrepareSettings, window_corners

# Bytes of a photograph's PNG for each pixel: DIV2K's 3.53 GB of 2.2 gigapixels make 1.6, and LMDBs hold quicker,
# larger ones. An estimate: a disk that fills all the same stops the work, which goes on later.
BYTES_PER_PIXEL = 1.8
_OVERLAP = 0.85  # part of (crop / step)^2 that pictures of 2K have: their borders have fewer neighbours


def pictures_bytes(dataset: Dataset) -> int:
    """Bytes that the pictures of a data set are likely to take."""
    return int(dataset.megapixels * 1e6 * BYTES_PER_PIXEL)


def planned_lmdb_bytes(dataset: Dataset, scales: Iterable[int]) -> int:
    """Bytes that one HR LMDB and an LR LMDB for each scale are likely to take, before the pictures are there."""
    overlap = _OVERLAP * (dataset.crop / dataset.step) ** 2 if dataset.crop else 1.0
    return int(pictures_bytes(dataset) * max(overlap, 1.0) * (1 + sum(scale**-2 for scale in scales)))


def lmdb_bytes(pictures: Iterable[Path], settings: PrepareSettings) -> int:
    """Bytes that the LMDBs of some pictures are likely to take; only headers are read."""
    pixels = 0
    for path in pictures:
        with Image.open(path) as image:
            width, height = image.size
        if not settings.crop:
            pixels += height * width
        elif min(height, width) >= settings.crop:
            pixels += len(window_corners(height, width, settings.crop, settings.step)) * settings.crop**2
    return int(pixels * BYTES_PER_PIXEL * (1 + sum(scale**-2 for scale in settings.scales)))
