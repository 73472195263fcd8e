"""Where everything of the figure goes, in inches from its top left corner.

+-----------+--------------------------------------+
| picture   | label   label   label   HR           |   header
|           | PSNR/SSIM of the picture             |
|           +--------------------------------------+
|           | crops of region A                    |   one row
+-----------+ PSNR/SSIM of A                       |   for each
| spectrum  | error maps of A          colour bar  |   region
+-----------+--------------------------------------+
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 7.2  # of a page with two columns
LINE = 0.115  # a line of text
MARGIN, GAP = 0.05, 0.06
NARROWEST, WIDEST = 0.94, 1.4  # of a crop: the text below it must fit, and the figure stay compact
TALLEST = 1.4  # of a crop, in its widths
LOWEST = 0.42  # of a row: beside the scale stand three lines of text
LEFT = 2.0  # the whole picture
_SPECTRUM, _AXIS, _SCALE = 1.0, 0.32, 0.3  # least height of the curves, and room for their axes below and at the left
_SWATCH = 0.05  # above a label, the line of its curve
_SHORTEST = 3.0


@dataclass(frozen=True)
class Box:
    """A rectangle in inches, from the top left corner of the figure."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height


@dataclass(frozen=True)
class Layout:
    """The boxes of a figure.

    Attributes:
        width, height: of the figure.
        headers: of each column: the line of its curve, its label, a line of text.
        crops, maps: by region, then by column; below each crop lies a line of text.
        picture, spectrum: at the left.
    """

    width: float
    height: float
    headers: list[Box]
    crops: list[list[Box]]
    maps: list[list[Box]]
    picture: Box
    spectrum: Box


def column_width(columns: int) -> float:
    """Width of a crop, given how many stand side by side; more than fit into `WIDTH` make the figure wider."""
    free = WIDTH - LEFT - 2 * MARGIN - columns * GAP - GAP
    return min(max(free / columns, NARROWEST), WIDEST)


def make_layout(columns: int, aspects: Sequence[float], picture_aspect: float, label_lines: int) -> Layout:
    """Places everything.

    Args:
        columns: results and the original.
        aspects: height over width of each region.
        picture_aspect: of the picture.
        label_lines: of the longest label.
    """
    column = column_width(columns)
    first = MARGIN + LEFT + 2 * GAP
    lefts = [first + number * (column + GAP) for number in range(columns)]
    header = (label_lines + 1) * LINE + _SWATCH
    top = MARGIN + header + GAP / 2
    crops, maps = [], []
    for aspect in aspects:
        height = max(column * min(aspect, TALLEST), LOWEST)
        crops.append([Box(left, top, column, height) for left in lefts])
        top += height + LINE + GAP
        maps.append([Box(left, top, column, height) for left in lefts])
        top += height + 2 * GAP
    bottom = max(top - 2 * GAP, _SHORTEST)
    picture, spectrum = _left_column(bottom, picture_aspect)
    headers = [Box(left, MARGIN, column, header) for left in lefts]
    return Layout(lefts[-1] + column + MARGIN, bottom + MARGIN, headers, crops, maps, picture, spectrum)


def _left_column(bottom: float, aspect: float) -> tuple[Box, Box]:
    """The picture, as large as the least spectrum allows, and the spectrum in what is left."""
    top = MARGIN + LINE + GAP
    beside = LINE + _AXIS + 2 * GAP  # title and axis of the spectrum
    height = min(LEFT * aspect, bottom - top - beside - _SPECTRUM)
    width = height / aspect
    picture = Box(MARGIN + (LEFT - width) / 2, top, width, height)
    curves = min(bottom - picture.bottom - beside, 0.8 * LEFT)
    return picture, Box(MARGIN + _SCALE, bottom - _AXIS - curves, LEFT - _SCALE, curves)
