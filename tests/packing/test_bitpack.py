"""Packed codes against the definition bit by bit, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.packing.bitpack import pack_bits, packed_bytes, unpack_bits

BITS = range(1, 9)


@st.composite
def coded(draw):
    bits = draw(st.integers(1, 8))
    return bits, draw(st.lists(st.integers(0, 2**bits - 1), max_size=70))


@given(coded())
def test_packed_bits_are_those_of_the_definition(case):
    bits, codes = case
    number = sum(code << (i * bits) for i, code in enumerate(codes))
    expected = number.to_bytes(packed_bytes(len(codes), bits), 'little')
    assert pack_bits(np.array(codes, np.uint8), bits).tobytes() == expected


@pytest.mark.parametrize('bits', BITS)
@pytest.mark.parametrize('length', [0, 1, 7, 8, 9, 60, 1001])
def test_unpacking_gives_the_codes_back(bits, length):
    codes = np.random.default_rng(bits).integers(0, 2**bits, length)
    data = pack_bits(codes, bits)
    assert data.dtype == np.uint8 and len(data) == packed_bytes(length, bits) == -(-length * bits // 8)
    assert np.array_equal(unpack_bits(data, bits, length), codes)


def test_any_shape_and_bool():
    mask = np.array([[True, False, True], [True, True, False]])
    assert pack_bits(mask, 1).tolist() == [0b011101]
