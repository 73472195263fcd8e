"""Bicubic resizing against a float64 closed form and, where it is at hand, the published benchmark."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from compsrt_basicsr.data.bicubic import down_weights, downscale, mod_crop, up_weights, upscale
from compsrt_basicsr.errors import CompSRTError

IMAGES = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=13))


def keys_cubic(x: float) -> float:
    """Keys' kernel with a = -0.5, as printed in the paper."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def dense_weights(length: int, scale: float) -> np.ndarray:
    """The (outputs, length) matrix of MATLAB's imresize in float64, straight from its definition."""
    shrink = min(scale, 1.0)
    outputs = math.ceil(length * scale - 1e-9)
    matrix = np.zeros((outputs, length))
    for x in range(1, outputs + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        for j in range(math.floor(u - 2 / shrink) - 1, math.ceil(u + 2 / shrink) + 2):
            mirrored = (j - 1) % (2 * length)
            column = mirrored if mirrored < length else 2 * length - 1 - mirrored
            matrix[x - 1, column] += shrink * keys_cubic(shrink * (u - j))
    return matrix / matrix.sum(axis=1, keepdims=True)


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Rounds halves up; the inner rounding removes float64 noise from values that are exact halves."""
    return np.clip(np.floor(np.round(values, 9) + 0.5), 0, 255).astype(np.uint8)


def reference(image: np.ndarray, scale: float) -> np.ndarray:
    """Rows first, rounded to 8 bits, then columns."""
    rows = to_uint8(dense_weights(image.shape[0], scale) @ image)
    return to_uint8(rows @ dense_weights(image.shape[1], scale).T)


@pytest.mark.parametrize('length', [1, 2, 5, 12, 31])
@pytest.mark.parametrize('scale', [2, 3, 4, 5])
@pytest.mark.parametrize('weights,factor', [(down_weights, lambda s: 1 / s), (up_weights, lambda s: s)])
def test_weights_are_the_closed_form(weights, factor, length, scale):
    indices, numerators, denominator = weights(length, scale)
    matrix = np.zeros((indices.shape[1], length))
    for index, numerator in zip(indices, numerators):
        matrix[np.arange(len(index)), index] += numerator / denominator
    np.testing.assert_allclose(matrix, dense_weights(length, factor(scale)), atol=1e-13)
    assert (numerators.sum(axis=0) == denominator).all()


@given(IMAGES, st.integers(2, 5))
@settings(deadline=None, max_examples=60)
def test_downscale_is_the_closed_form(image, scale):
    np.testing.assert_array_equal(downscale(image, scale), reference(image, 1 / scale))


@given(IMAGES, st.integers(2, 5))
@settings(deadline=None, max_examples=60)
def test_upscale_is_the_closed_form(image, scale):
    np.testing.assert_array_equal(upscale(image, scale), reference(image, scale))


@given(st.integers(0, 255), st.integers(1, 9), st.integers(1, 9), st.integers(1, 24))
@settings(deadline=None)
def test_constant_image_stays_constant(level, height, width, scale):
    image = np.full((height, width, 3), level, np.uint8)
    down, up = downscale(image, scale), upscale(image, scale)
    assert down.shape == (-(-height // scale), -(-width // scale), 3)
    assert up.shape == (height * scale, width * scale, 3)
    assert (down == level).all()
    assert (up == level).all()


@given(IMAGES, st.integers(1, 4))
@settings(deadline=None)
def test_mirrored_image_gives_mirrored_result(image, scale):
    """Whole-number sums do not depend on their order, so this holds exactly."""
    image = np.kron(image, np.ones((scale, scale), np.uint8))  # lengths that divide
    np.testing.assert_array_equal(downscale(image[::-1, ::-1], scale), downscale(image, scale)[::-1, ::-1])


@given(hnp.arrays(np.uint8, (7, 9, 3)), st.integers(1, 4))
@settings(deadline=None)
def test_channels_do_not_mix(image, scale):
    for resize in (downscale, upscale):
        whole = resize(image, scale)
        for channel in range(3):
            np.testing.assert_array_equal(whole[..., channel], resize(image[..., channel], scale))


@pytest.mark.parametrize('rows,expected', [((0, 1), 1), ((2, 3), 3), ((254, 255), 255)])
def test_halves_round_up(rows, expected):
    """With two mirrored rows the result is their mean; round-half-even would give 0, 2 and 254."""
    assert downscale(np.array(rows, np.uint8)[:, None], 2) == [[expected]]


def test_first_pass_is_rounded_and_runs_down_the_columns():
    """0.25 without the rounding between the passes."""
    assert downscale(np.array([[0, 0], [1, 0]], np.uint8), 2) == [[1]]


def test_overshoot_is_clipped():
    step = np.repeat(np.array([0, 255], np.uint8), 8)[None].repeat(16, 0)
    for result in (downscale(step, 2), upscale(step, 2)):
        assert result[:, 0].max() == 0
        assert result[:, -1].min() == 255


@pytest.mark.parametrize('scale', [16, 17, 24])
def test_large_factors_do_not_overflow(scale):
    image = np.repeat(np.array([255, 0, 255, 255], np.uint8), 20)[:, None].repeat(50, 1)
    np.testing.assert_array_equal(downscale(image, scale), reference(image, 1 / scale))


def test_factor_one_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(downscale(image, 1), image)
    np.testing.assert_array_equal(upscale(image, 1), image)


def test_views_in_any_order_are_read_right():
    image = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(downscale(image[..., ::-1], 2), downscale(image[..., ::-1].copy(), 2))


def test_mod_crop_keeps_the_top_left():
    image = np.arange(7 * 11).reshape(7, 11)
    np.testing.assert_array_equal(mod_crop(image, 3), image[:6, :9])


@pytest.mark.parametrize(
    'image,scale,culprit',
    [
        (np.zeros((4, 4)), 2, '`image`'),
        (np.zeros((4, 4, 3, 1), np.uint8), 2, '`image`'),
        (np.zeros((0, 4), np.uint8), 2, '`image`'),
        (np.zeros((4, 4), np.uint8), 0, '`scale`'),
        (np.zeros((4, 4), np.uint8), 1.5, '`scale`'),
    ],
)
def test_bad_arguments_are_named(image, scale, culprit):
    for resize in (downscale, upscale):
        with pytest.raises(CompSRTError, match=culprit):
            resize(image, scale)


@given(IMAGES, st.sampled_from([2, 3, 4, 17]))
def test_sixteen_bits_are_the_closed_form(image, scale):
    """At 16 bits, with levels up to the last one, the sums must not overflow."""
    deep = image.astype(np.uint16) * 257
    for resize, factor in ((upscale, scale), (downscale, 1 / scale)):
        exact = dense_weights(image.shape[0], factor) @ deep
        rows = np.clip(np.floor(np.round(exact, 6) + 0.5), 0, 65535)
        exact = rows @ dense_weights(image.shape[1], factor).T
        assert resize(deep, scale).dtype == np.uint16
        assert np.array_equal(resize(deep, scale), np.clip(np.floor(np.round(exact, 6) + 0.5), 0, 65535))


@pytest.mark.data
@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('name,count', [('Set5', 5), ('Set14', 14), ('B100', 100)])
def test_benchmark_is_reproduced_bit_for_bit(name, count, scale):
    if 'COMPSRT_BENCHMARK' not in os.environ:
        pytest.skip('COMPSRT_BENCHMARK is not set')
    folder = Path(os.environ['COMPSRT_BENCHMARK']) / name
    images = sorted((folder / 'HR').glob('*.png'))
    differing = {}
    for path in images:
        high = np.array(Image.open(path))
        published = np.array(Image.open(folder / f'LR_bicubic/X{scale}/{path.stem}x{scale}.png'))
        differing[path.name] = int((downscale(mod_crop(high, scale), scale) != published).sum())
    assert len(images) == count
    assert differing == dict.fromkeys(differing, 0)
