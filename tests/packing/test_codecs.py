"""Codecs: what goes in comes out, in the bytes that are claimed; rANS against an independent one in whole numbers."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing.codecs import BlockLayout, check_codec, decode, encode, frequencies


def block(bits, rows=3, columns=7, seed=0, masked=False):
    """Codes that crowd in the middle, as those of weights do."""
    generator = np.random.default_rng(seed)
    codes = 2 ** (bits - 1) + 2 ** (bits - 2.5) * generator.standard_normal((rows, columns))
    codes = codes.round().clip(0, 2**bits - 1).astype(np.uint8)
    if not masked:
        return BlockLayout(rows, columns, bits), codes
    keep, fill = generator.random((rows, columns)) > 0.4, codes[:, :1]
    return BlockLayout(rows, columns, bits, keep, fill), np.where(keep, codes, fill)


@st.composite
def several(draw, masked):
    sizes = st.tuples(st.integers(2, 8), st.integers(1, 9), st.integers(1, 40), st.integers(0, 99))
    return [block(*size, masked) for size in draw(st.lists(sizes, min_size=1, max_size=4))]


@pytest.mark.parametrize('codec', ['plain', 'rans'])
@given(blocks=several(masked=False))
def test_round_trip(codec, blocks):
    decoded = decode(codec, encode(codec, blocks), [layout for layout, _ in blocks])
    assert all(np.array_equal(codes, again) for (_, codes), again in zip(blocks, decoded))


@given(blocks=several(masked=True))
def test_mask_round_trip_stores_only_what_is_kept(blocks):
    arrays = encode('mask', blocks)
    assert len(arrays['codes']) == sum(-(-int(x.keep.sum()) * x.bits // 8) for x, _ in blocks)
    decoded = decode('mask', arrays, [layout for layout, _ in blocks])
    assert all(np.array_equal(codes, again) for (_, codes), again in zip(blocks, decoded))


@given(st.integers(1, 8), st.lists(st.integers(0, 255), min_size=1, max_size=300))
def test_frequencies_add_up_and_leave_none_out(bits, codes):
    codes = np.array(codes) % 2**bits
    table = frequencies(codes, bits)
    assert table.sum() == 2**16 and table.min() >= 1 and len(table) == 2**bits
    exact = 1 + np.bincount(codes, minlength=2**bits) * (2**16 - 2**bits) / len(codes)
    assert np.abs(table - exact).max() < 1


def whole_number_rans(codes, table):
    """rANS as in Duda (arXiv 1311.2540), a state of 64 bits and words of 32, frequencies out of 2^24."""
    table = [int(count) << 8 for count in table]
    starts = np.cumsum([0, *table]).tolist()
    state, words = 0, []
    for code in reversed(codes):
        if state >> 40 >= table[code]:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        state = (state // table[code] << 24) + starts[code] + state % table[code]
    while state:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return words


@given(st.integers(2, 8), st.integers(0, 999))
def test_rans_is_computed_in_whole_numbers(bits, seed):
    """So that files decode everywhere: the library's floats must never round."""
    layout, codes = block(bits, 5, 60, seed)
    arrays = encode('rans', [(layout, codes)])
    assert arrays['codes'].tolist() == whole_number_rans(codes.flatten().tolist(), arrays['tables'])


def test_rans_comes_near_the_entropy():
    """Within a hundredth of a bit for each code, the table not counted."""
    layout, codes = block(4, 120, 600)
    share = np.bincount(codes.flatten()) / codes.size
    entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
    size = 8 * encode('rans', [(layout, codes)])['codes'].nbytes / codes.size
    assert entropy <= size < entropy + 0.01 < 4


@pytest.mark.parametrize(
    ('codec', 'layout'),
    [
        ('plain', BlockLayout(3, 8, 3)),
        ('plain', BlockLayout(3, 7, 4)),
        ('rans', BlockLayout(3, 6, 3)),
        ('rans', BlockLayout(3, 7, 4)),
    ],
)
def test_other_layouts_are_refused(codec, layout):
    with pytest.raises(CompSRTError, match='do not fit the index'):
        decode(codec, encode(codec, [block(3)]), [layout])


def zstd_frame(data):
    """What earlier versions wrote with the codec zstd."""
    return {'codes': np.frombuffer(pytest.importorskip('zstandard').ZstdCompressor().compress(data), np.uint8)}


def test_zstd_is_still_read():
    assert decode('zstd', zstd_frame(bytes([3, 15])), [BlockLayout(1, 2, 4)])[0].tolist() == [[3, 15]]


@pytest.mark.parametrize('data', [bytes(1), bytes(3), bytes(2**26), bytes([3, 16])], ids=len)
def test_zstd_frames_of_another_size_or_of_more_bits_are_refused(data):
    """A large frame is refused before it is decompressed."""
    with pytest.raises(CompSRTError, match='do not fit the index'):
        decode('zstd', zstd_frame(data), [BlockLayout(1, 2, 4)])


def test_zstd_without_its_package_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, 'zstandard', None)
    with pytest.raises(CompSRTError, match='pip install zstandard'):
        decode('zstd', {'codes': np.zeros(1, np.uint8)}, [BlockLayout(1, 2, 4)])


def test_codecs_that_are_not_written():
    with pytest.raises(CompSRTError, match='`zstd` is no longer written: use `rans`'):
        check_codec('zstd')
    with pytest.raises(CompSRTError, match='Did you mean `rans`'):
        check_codec('rens')


@pytest.mark.parametrize('table', [[0, 2**16, 0, 0], [1, 1, 1, 1], [2**15, 2**15, 2**15, 2**15]])
def test_broken_tables_are_refused(table):
    arrays = {**encode('rans', [block(2)]), 'tables': np.array(table, dtype=np.uint32).astype(np.uint16)}
    with pytest.raises(CompSRTError, match='do not fit the index'):
        decode('rans', arrays, [BlockLayout(3, 7, 2)])
