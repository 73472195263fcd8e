"""16-bit PNG and TIFF: what is written, other decoders read, bit for bit."""

from __future__ import annotations

import io
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from compsrt_basicsr.inference import io_16bit
from compsrt_basicsr.inference.io_16bit import decode_16bit, write_png, write_tiff

ICC = bytes(range(256)) * 3


def written(write, values, *rest):
    stream = io.BytesIO()
    write(stream, values, *rest)
    return stream.getvalue()


def images(channels):
    shape = st.tuples(st.integers(1, 70), st.integers(1, 9), channels)
    return shape.flatmap(lambda shape: hnp.arrays(np.uint16, shape))


@given(images(st.sampled_from([1, 3, 4])))
def test_other_decoders_read_them(values):
    for data in (written(write_png, values, None, None), written(write_tiff, values, None)):
        assert np.array_equal(decode_16bit(data), values)
        with Image.open(io.BytesIO(data)) as image:
            image.load()  # checks the sums and the amount of data
            assert image.size == values.shape[1::-1]


@given(images(st.just(2)))
def test_grey_with_alpha(values):
    """OpenCV widens grey to RGB; Pillow too, and keeps the upper 8 bits."""
    data = written(write_png, values, None, None)
    assert np.array_equal(decode_16bit(data)[:, :, [0, 3]], values)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.array(image.convert('RGBA'))[:, :, [0, 3]], values >> 8)


def test_strips(monkeypatch):
    monkeypatch.setattr(io_16bit, '_TIFF_STRIP', 100)
    values = np.random.default_rng(0).integers(0, 2**16, (31, 17, 3)).astype(np.uint16)
    assert np.array_equal(decode_16bit(written(write_tiff, values, None)), values)


@pytest.mark.parametrize('data', [written(write_png, np.ones((3, 4, 3), np.uint16), ICC, None),
                                  written(write_tiff, np.ones((3, 4, 3), np.uint16), ICC)])  # fmt: skip
def test_colour_profile_is_kept(data):
    with Image.open(io.BytesIO(data)) as image:
        assert image.info['icc_profile'] == ICC


@pytest.mark.parametrize(('write', 'rest'), [(write_png, (None, None)), (write_tiff, (None,))])
def test_writing_needs_little_memory(tmp_path, write, rest):
    """An image of 24 MB is compressed a few rows at a time."""
    values = np.zeros((4000, 1000, 3), np.uint16)
    with (tmp_path / 'file').open('wb') as stream:
        write(io.BytesIO(), values[:1], *rest)  # imports
        tracemalloc.start()
        write(stream, values, *rest)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8e6


def test_eight_bits_are_refused():
    with pytest.raises(ValueError, match='16-bit data'):
        decode_16bit(cv2.imencode('.png', np.zeros((4, 4), np.uint8))[1].tobytes())
