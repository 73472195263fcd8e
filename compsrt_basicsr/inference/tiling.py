"""Cutting a picture into overlapping tiles that lie on the attention windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compsrt_basicsr.errors import CompSRTError

TILE, OVERLAP = 256, 32  # pixels before enlarging; docs/upscaling.md has the measurement


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels of the picture before enlarging.

    Attributes:
        start, stop: what the network sees; multiples of the window, `stop` may lie in the padding.
        keep_start, keep_stop: the part of it whose result is kept; never in the padding.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def spans(length: int, tile: int, overlap: int, multiple: int) -> list[Span]:
    """The tiles along one axis; their kept parts follow each other without gap.

    All begin and end on multiples of the window, so that the windows inside a tile, shifted ones too, are those of the
    whole picture. All but a single one are equally long; the last is moved back to end with the picture.

    Args:
        length: pixels of the picture along the axis.
        tile: longest tile in pixels, overlap included; rounded down to a multiple. 0: the whole length.
        overlap: pixels between a tile's border inside the picture and what is kept of it; rounded up to a multiple.
        multiple: the attention window, or 1.

    Raises:
        CompSRTError: the tile is negative, or so small that the overlap leaves nothing of it.
    """
    padded = length + -length % multiple
    overlap += -overlap % multiple
    smallest = 2 * overlap + multiple
    if tile != 0 and tile < smallest:
        raise CompSRTError(
            f'`tile` must be at least {smallest} for this model, or 0 for whole pictures, got {tile}: {overlap} pixels '
            'on each side are needed for a seamless result.'
        )
    tile -= tile % multiple
    if tile == 0 or padded <= tile:
        return [Span(0, padded, 0, length)]
    step = tile - 2 * overlap
    found: list[Span] = []
    for place in range(0, padded - 2 * overlap, step):
        start = min(place, padded - tile)
        end = length if start + tile == padded else start + tile - overlap
        found.append(Span(start, start + tile, found[-1].keep_stop if found else 0, end))
    return found


@dataclass(frozen=True)
class Tile:
    """One tile of a picture."""

    rows: Span
    columns: Span

    @property
    def pixels(self) -> int:
        """How many pixels of the picture it settles."""
        return (self.rows.keep_stop - self.rows.keep_start) * (self.columns.keep_stop - self.columns.keep_start)


def tiles(height: int, width: int, tile: int, overlap: int, multiple: int) -> Iterator[Tile]:
    """All tiles of a picture, row by row; see `spans`."""
    columns = spans(width, tile, overlap, multiple)
    for row in spans(height, tile, overlap, multiple):
        for column in columns:
            yield Tile(row, column)
