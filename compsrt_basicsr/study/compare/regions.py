"""The regions of an image that a comparison shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compsrt_basicsr.errors import CompSRTError

SMALLEST = 11  # pixels a side: the window of SSIM


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels of the original image, counted from its top left corner."""

    x: int
    y: int
    width: int
    height: int

    def __str__(self) -> str:
        return f'{self.x},{self.y},{self.width},{self.height}'

    def of(self, image: np.ndarray) -> np.ndarray:
        """Returns its part of an image (H, W[, C]), a view."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


def parse_region(text: str) -> Region:
    """Reads `X,Y,W,H`.

    Raises:
        CompSRTError: if it is anything else.
    """
    try:
        x, y, width, height = (int(part) for part in text.split(','))
    except ValueError as error:
        raise CompSRTError(
            f'`--region {text}` is not X,Y,W,H: give four whole numbers, such as 40,60,64,64.'
        ) from error
    return Region(x, y, width, height)


def check_region(region: Region, height: int, width: int) -> None:
    """Checks that a region lies inside an image and is large enough for SSIM.

    Raises:
        CompSRTError: if it is not.
    """
    if min(region.width, region.height) < SMALLEST:
        raise CompSRTError(
            f'`--region {region}` is smaller than {SMALLEST}x{SMALLEST}, the window of SSIM: give a larger one.'
        )
    if min(region.x, region.y) < 0 or region.x + region.width > width or region.y + region.height > height:
        raise CompSRTError(
            f'`--region {region}` is not inside the image, whose {width}x{height} pixels are counted from 0,0: '
            'move or shrink it.'
        )


def check_side(side: int, height: int, width: int, border: int) -> None:
    """Checks that squares fit into an image and are large enough for SSIM.

    Args:
        side: side of the squares in pixels.
        height, width: size of the image.
        border: pixels at the edges of the image that no square may touch.

    Raises:
        CompSRTError: if they do not fit, or are too small.
    """
    if side < SMALLEST:
        raise CompSRTError(f'`--region-size` must be at least {SMALLEST}, the window of SSIM, got {side}.')
    if side + 2 * border > min(height, width):
        raise CompSRTError(
            f'A region of {side}x{side} does not fit into the image of {width}x{height} without a border of {border} '
            'pixels: give a smaller --region-size.'
        )


def find_regions(errors: Sequence[np.ndarray], count: int, side: int, border: int = 0) -> list[Region]:
    """Finds the squares where the errors of the results differ most.

    For each result the squared error is averaged over every square of `side` pixels (a box filter). The spread of a
    square is the largest of these means minus the smallest. The square with the largest spread is taken, the uppermost
    and then leftmost of equals, then the next one that is at least `side` pixels away from the earlier ones. If the
    results are equally good everywhere, the largest error decides instead of the spread.

    Args:
        errors: difference of each result from the original, (H, W).
        count: number of squares, at least 1.
        side: side of a square in pixels, accepted by `check_side`.
        border: pixels at the edges of the image that no square may touch.

    Returns:
        At most `count` squares, fewer if there is no room for more; the first has the largest spread.
    """
    height, width = (length - 2 * border for length in errors[0].shape)
    means = [_box_means(error[border : border + height, border : border + width], side) for error in errors]
    merit = np.max(means, axis=0) - np.min(means, axis=0)
    if not merit.any():
        merit = np.max(means, axis=0)
    far = 2 * side
    found: list[Region] = []
    while len(found) < count and not np.isneginf(merit.max()):
        y, x = np.unravel_index(np.argmax(merit), merit.shape)
        found.append(Region(int(x) + border, int(y) + border, side, side))
        merit[max(0, y - far + 1) : y + far, max(0, x - far + 1) : x + far] = -np.inf
    return found


def _box_means(error: np.ndarray, side: int) -> np.ndarray:
    """Mean squared error of each square of `side` pixels by its top left corner, (H - side + 1, W - side + 1)."""
    sums = np.zeros((error.shape[0] + 1, error.shape[1] + 1))
    sums[1:, 1:] = np.square(error, dtype=np.float64).cumsum(axis=0).cumsum(axis=1)
    total = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return total / side**2
