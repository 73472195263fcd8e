"""Cut an image into overlapping tiles that are aligned with the attention windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compsrt_basicsr.errors import CompSRTError

TILE, OVERLAP = 256, 32  # pixels of the input; docs/upscaling.md has the measurement


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels of the input.

    Attributes:
        start: begin of what the network sees; a multiple of the window.
        stop: end of it; a multiple of the window, possibly in the padding.
        keep_start: begin of the part whose result is kept.
        keep_stop: end of it; never in the padding.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def spans(length: int, tile: int, overlap: int, multiple: int) -> list[Span]:
    """Returns the tiles along one axis; their kept parts follow each other without a gap.

    All begin and end on multiples of the window, so that the windows inside a tile, including shifted ones, are those
    of the whole image. All have the same length; the last is moved back to end with the image.

    Args:
        length: pixels of the image along the axis.
        tile: longest tile in pixels, overlap included; rounded down to a multiple. 0: the whole length. The default is
            made as large as necessary.
        overlap: pixels between a tile's border inside the image and what is kept of it; rounded up to a multiple.
        multiple: the attention window, or 1.

    Raises:
        CompSRTError: if the tile is negative, or so small that the overlap leaves nothing of it.
    """
    padded = length + -length % multiple
    overlap += -overlap % multiple
    smallest = 2 * overlap + multiple
    if tile == TILE:
        tile = max(tile, smallest)
    if tile != 0 and tile < smallest:
        raise CompSRTError(
            f'`tile` must be at least {smallest} for this model, or 0 for whole images, got {tile}: {overlap} pixels '
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
    """One tile of an image."""

    rows: Span
    columns: Span

    @property
    def pixels(self) -> int:
        """Number of pixels of the image that it contributes."""
        return (self.rows.keep_stop - self.rows.keep_start) * (self.columns.keep_stop - self.columns.keep_start)


def tiles(height: int, width: int, tile: int, overlap: int, multiple: int) -> Iterator[Tile]:
    """Yields all tiles of an image, row by row; see `spans`."""
    columns = spans(width, tile, overlap, multiple)
    for row in spans(height, tile, overlap, multiple):
        for column in columns:
            yield Tile(row, column)
