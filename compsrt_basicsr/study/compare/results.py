"""What was compared, and the figures of merit of each result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.metrics.metric_util import to_y_channel

from compsrt_basicsr.study.compare.regions import Region
from compsrt_basicsr.study.compare.sharpness import Sharpness

BICUBIC, TEACHER, MODEL = 'bicubic', 'teacher', 'model'


@dataclass(frozen=True)
class Scores:
    """Likeness to the original, on the Y channel.

    Attributes:
        psnr: in dB, infinite for the original itself.
        ssim: at most 1.
    """

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Result:
    """One enlargement.

    Attributes:
        label: for tables and figures.
        role: 'bicubic', 'teacher' or 'model'.
        source: path or name of the network; None for bicubic.
        execution: 'float', 'fake' or 'integer'; None for bicubic.
        picture: (H, W, 3) RGB uint8.
        whole: of the picture without a border of `scale` pixels, the protocol of the published tables.
        details: of each region, all of its pixels counted.
        sharpness: of the picture without that border.
    """

    label: str
    role: str
    source: str | None
    execution: str | None
    picture: np.ndarray
    whole: Scores
    details: tuple[Scores, ...]
    sharpness: Sharpness


@dataclass(frozen=True)
class Comparison:
    """All of it.

    Attributes:
        name: of the picture, for titles.
        source: file of the picture.
        lr_source: file of the low-resolution picture; None: made from the original.
        scale: output over input side.
        original: (H, W, 3) RGB uint8, sides multiples of `scale`.
        sharpness: of the original.
        cutoff: in cycles per pixel, above which a frequency counts as high.
        regions: what is shown enlarged.
        found: whether `regions` were found, not chosen.
        results: bicubic first, then the teacher if there is one, then the models.
    """

    name: str
    source: str
    lr_source: str | None
    scale: int
    original: np.ndarray
    sharpness: Sharpness
    cutoff: float
    regions: tuple[Region, ...]
    found: bool
    results: tuple[Result, ...]

    @property
    def teacher(self) -> Result | None:
        return next((result for result in self.results if result.role == TEACHER), None)


def luma(picture: np.ndarray) -> np.ndarray:
    """The Y channel (ITU-R BT.601, 16 to 235, not rounded) of an RGB uint8 picture (H, W, 3), as float64 (H, W)."""
    return to_y_channel(picture[:, :, ::-1])[:, :, 0].astype(np.float64)


def score(picture: np.ndarray, original: np.ndarray, border: int) -> Scores:
    """Compares two RGB uint8 pictures (H, W, 3), without `border` pixels at the edges."""
    options = {'crop_border': border, 'test_y_channel': True}
    blue_first = picture[:, :, ::-1], original[:, :, ::-1]
    return Scores(float(calculate_psnr(*blue_first, **options)), float(calculate_ssim(*blue_first, **options)))


def ratio(value: float | None, reference: float | None) -> float | None:
    """`value` over `reference`; None where there is none."""
    return None if value is None or not reference else value / reference
