"""Packed codes against the definition bit by bit, and back."""

import pytest
import torch
from compsrt_basicsr.quant.functional.bitpack import pack_bits, packed_bytes, unpack_bits
from hypothesis import given
from hypothesis import strategies as st

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
    assert bytes(pack_bits(torch.tensor(codes, dtype=torch.uint8), bits).tolist()) == expected


@given(coded())
def test_unpacking_gives_the_codes_back(case):
    bits, codes = case
    codes = torch.tensor(codes, dtype=torch.uint8)
    assert torch.equal(unpack_bits(pack_bits(codes, bits), bits, len(codes)), codes)


@pytest.mark.parametrize('bits', BITS)
@pytest.mark.parametrize('length', [1, 7, 8, 9, 60, 1001])
def test_round_trip_at_odd_lengths(bits, length):
    codes = torch.randint(0, 2**bits, (length,), generator=torch.Generator().manual_seed(bits))
    data = pack_bits(codes, bits)
    assert len(data) == packed_bytes(length, bits) == -(-length * bits // 8)
    assert torch.equal(unpack_bits(data, bits, length).long(), codes)


def test_any_shape_and_bool():
    mask = torch.tensor([[True, False, True], [True, True, False]])
    assert pack_bits(mask, 1).tolist() == [0b011101]
