"""Settings of `prepare`: what decides the content of the LMDBs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from compsrt_basicsr.errors import CompSRTError


@dataclass(frozen=True)
class PrepareSettings:
    """What decides the content of the LMDBs.

    Attributes:
        name: start of the LMDBs' names; ASCII letters, digits, `-` and `_`.
        scales: factors of at least 2; kept sorted, each once.
        crop: side of the square HR sub-images in pixels, a multiple of every scale; 0 keeps whole images.
        step: distance between sub-images in pixels, a multiple of every scale; the last sub-image of a row ends at the
            border. 0 when `crop` is 0.

    Raises:
        CompSRTError: if a value is out of its range.
    """

    name: str
    scales: tuple[int, ...]
    crop: int = 480
    step: int = 240

    def __post_init__(self) -> None:
        object.__setattr__(self, 'scales', tuple(sorted(set(self.scales))))
        if not self.crop:
            object.__setattr__(self, 'step', 0)  # unused then, so it must not keep a run from resuming
        if not re.fullmatch('[A-Za-z0-9_-]+', self.name):
            raise CompSRTError(f'`name` may hold ASCII letters, digits, `-` and `_` only, got `{self.name}`.')
        if not self.scales or self.scales[0] < 2:
            raise CompSRTError(f'`scale` must be at least 2, got {list(self.scales)}.')
        if self.crop < 0 or (self.crop and self.step < 1):
            raise CompSRTError(
                f'`crop` must be 0 or more and `step` at least 1, got crop {self.crop} and step {self.step}.'
            )
        if self.crop and (self.crop % self.multiple or self.step % self.multiple):
            raise CompSRTError(
                f'`crop` and `step` must be multiples of every scale, so of {self.multiple}, '
                f'got crop {self.crop} and step {self.step}.'
            )

    @property
    def multiple(self) -> int:
        """Least common multiple of the scales; the sides of every HR crop are multiples of it."""
        return math.lcm(*self.scales)

    @property
    def stem(self) -> str:
        """Start of the working files' names."""
        return f'{self.name}_sub' if self.crop else self.name

    def outputs(self, out: Path) -> dict[int, Path]:
        """Returns the folder of each LMDB by scale; scale 1 is the high resolution."""
        tail = '_sub.lmdb' if self.crop else '.lmdb'
        kinds = {1: 'HR', **{scale: f'LRx{scale}' for scale in self.scales}}
        return {scale: out / f'{self.name}_{kind}{tail}' for scale, kind in kinds.items()}


def window_corners(height: int, width: int, crop: int, step: int) -> list[tuple[int, int]]:
    """Returns the top left corners of the sub-images, row by row, as BasicSR's extract_subimages with threshold 0.

    Args:
        height: of the image, at least `crop` pixels.
        width: of the image, at least `crop` pixels.
        crop: side of the sub-images in pixels.
        step: distance between them in pixels.
    """

    def starts(length: int) -> list[int]:
        found = list(range(0, length - crop + 1, step))
        return found if found[-1] + crop == length else [*found, length - crop]

    return [(top, left) for top in starts(height) for left in starts(width)]
