"""The results of a comparison, and their quality."""

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
    """Similarity to the original on the Y channel.

    Attributes:
        psnr: PSNR in dB, infinite for the original itself.
        ssim: SSIM, at most 1.
    """

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Result:
    """One upscaled image.

    Attributes:
        label: name in tables and figures.
        role: 'bicubic', 'teacher' or 'model'.
        source: path or name of the network; None for bicubic.
        execution: 'float', 'fake' or 'integer'; None for bicubic.
        image: (H, W, 3) RGB uint8.
        whole: scores of the image without a border of `scale` pixels, as in the published tables.
        details: scores of each region, with all of its pixels.
        sharpness: sharpness of the image without that border.
    """

    label: str
    role: str
    source: str | None
    execution: str | None
    image: np.ndarray
    whole: Scores
    details: tuple[Scores, ...]
    sharpness: Sharpness


@dataclass(frozen=True)
class Comparison:
    """A complete comparison.

    Attributes:
        name: name of the image, for titles.
        source: file of the original image.
        lr_source: file of the small image; None if it was made from the original.
        scale: upscaling factor.
        original: (H, W, 3) RGB uint8, sides multiples of `scale`.
        sharpness: sharpness of the original.
        cutoff: lowest high frequency, in cycles per pixel.
        regions: the regions that are shown enlarged.
        found: True if `regions` were found, False if the user chose them.
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
        """The result of the teacher, or None."""
        return next((result for result in self.results if result.role == TEACHER), None)


def luma(image: np.ndarray) -> np.ndarray:
    """Returns the Y channel (BT.601, 16 to 235, not rounded) of an RGB uint8 image (H, W, 3) as float64 (H, W)."""
    return to_y_channel(image[:, :, ::-1])[:, :, 0].astype(np.float64)


def score(image: np.ndarray, original: np.ndarray, border: int) -> Scores:
    """Compares two RGB uint8 images (H, W, 3) without `border` pixels at the edges."""
    options = {'crop_border': border, 'test_y_channel': True}
    bgr = image[:, :, ::-1], original[:, :, ::-1]
    return Scores(float(calculate_psnr(*bgr, **options)), float(calculate_ssim(*bgr, **options)))


def ratio(value: float | None, reference: float | None) -> float | None:
    """Returns `value / reference`, or None if one is missing or the reference is 0."""
    return None if value is None or not reference else value / reference
