"""Tiles: they cover each pixel once, on the windows' grid, with their overlap around them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.tiling import spans, tiles


@given(st.integers(1, 700), st.integers(0, 40), st.integers(1, 12), st.integers(0, 90))
def test_spans_cover_once_on_the_grid(length, overlap, multiple, more):
    rounded = overlap + -overlap % multiple
    tile = 2 * rounded + multiple + more
    found = spans(length, tile, overlap, multiple)
    assert [found[0].keep_start, found[-1].keep_stop] == [0, length]
    assert all(a.keep_stop == b.keep_start for a, b in itertools.pairwise(found))
    for span in found:
        assert span.start % multiple == span.stop % multiple == 0
        assert span.start <= span.keep_start < span.keep_stop <= span.stop
        assert span.stop - span.start <= tile
        assert span.start == 0 or span.keep_start - span.start >= rounded
        assert span.stop >= length or span.stop - span.keep_stop >= rounded
    assert len({span.stop - span.start for span in found}) == 1


def test_no_tiling_without_need():
    assert len(spans(256, 256, 32, 8)) == len(spans(10**6, 0, 32, 8)) == len(spans(3, 10**9, 32, 8)) == 1
    assert len(spans(257, 256, 32, 8)) == 2


@given(st.integers(1, 300), st.integers(1, 300))
def test_tiles_settle_every_pixel(height, width):
    assert sum(tile.pixels for tile in tiles(height, width, 80, 32, 8)) == height * width


@pytest.mark.parametrize('tile', [-1, 1, 71])
def test_absurd_tiles_are_refused(tile):
    with pytest.raises(CompSRTError, match=rf'`tile` must be at least 72 .* or 0 for whole images, got {tile}'):
        spans(1000, tile, 32, 8)
