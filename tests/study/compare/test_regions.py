"""Where the details are found, and which chosen ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.compare.regions import Region, check_region, check_side, find_regions, parse_region


def errors_with(*blocks, shape=(90, 120)):
    """Two results: no error, and an error of `level` in each block (x, y, side, level)."""
    second = np.zeros(shape)
    for x, y, side, level in blocks:
        second[y : y + side, x : x + side] = level
    return [np.zeros(shape), second]


def test_the_squares_of_the_largest_spread_in_their_order():
    found = find_regions(errors_with((70, 10, 12, 3), (5, 50, 12, 5)), 2, 12)
    assert found == [Region(5, 50, 12, 12), Region(70, 10, 12, 12)]


def test_an_error_that_all_share_is_no_difference():
    errors = errors_with((70, 10, 12, 2))
    for error in errors:
        error[50:70, 5:25] = 100
    assert find_regions(errors, 1, 12) == [Region(70, 10, 12, 12)]


def test_squares_of_equal_spread_are_taken_from_the_top_then_from_the_left():
    found = find_regions(errors_with((60, 40, 12, 4), (5, 40, 12, 4), (30, 2, 12, 4)), 3, 12)
    assert found == [Region(30, 2, 12, 12), Region(5, 40, 12, 12), Region(60, 40, 12, 12)]


def test_results_of_one_error_are_shown_where_it_is_largest():
    same = errors_with((33, 44, 12, 7))[1]
    assert find_regions([same, same], 1, 12) == [Region(33, 44, 12, 12)]


def test_no_square_touches_the_border():
    assert find_regions(errors_with((0, 0, 14, 9)), 1, 12, border=4) == [Region(4, 4, 12, 12)]


def test_fewer_squares_where_there_is_no_room():
    assert len(find_regions(errors_with((0, 0, 12, 9), shape=(20, 40)), 5, 12)) == 2


@given(st.integers(11, 20), st.integers(1, 4), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_squares_lie_inside_and_apart(side, count, border, seed):
    """Whatever the errors, no found square leaves the image or comes nearer to another than its side."""
    errors = np.random.default_rng(seed).normal(size=(3, 60, 75))
    found = find_regions(list(errors), count, side, border)
    for number, region in enumerate(found):
        check_region(region, 60, 75)
        assert min(region.x, region.y, 75 - region.x - side, 60 - region.y - side) >= border
        for other in found[:number]:
            assert max(abs(region.x - other.x), abs(region.y - other.y)) >= 2 * side


def test_a_region_is_read_and_cut_out():
    image = np.arange(20 * 30).reshape(20, 30)
    assert str(parse_region('3,4,11,12')) == '3,4,11,12'
    assert np.array_equal(parse_region('3, 4,11,12').of(image), image[4:16, 3:14])


@pytest.mark.parametrize('text', ['', '1,2,3', '1,2,3,4,5', '1,2,3,x', '1,2,30,1.5'])
def test_what_is_no_region(text):
    with pytest.raises(CompSRTError, match='is not X,Y,W,H'):
        parse_region(text)


@pytest.mark.parametrize('text', ['-1,0,11,11', '0,-1,11,11', '20,0,11,11', '0,10,11,11', '0,0,31,11'])
def test_regions_outside_of_the_image(text):
    with pytest.raises(CompSRTError, match=f'`--region {text}` is not inside the image, whose 30x20 pixels'):
        check_region(parse_region(text), 20, 30)


def test_the_smallest_and_the_largest_region():
    check_region(Region(0, 0, 30, 20), 20, 30)
    check_region(Region(19, 9, 11, 11), 20, 30)
    with pytest.raises(CompSRTError, match='is smaller than 11x11'):
        check_region(Region(0, 0, 10, 20), 20, 30)


def test_the_smallest_and_the_largest_side():
    check_side(16, 20, 30, border=2)
    with pytest.raises(CompSRTError, match='of 17x17 does not fit into the image of 30x20'):
        check_side(17, 20, 30, border=2)
    with pytest.raises(CompSRTError, match='`--region-size` must be at least 11'):
        check_side(10, 20, 30, border=0)
