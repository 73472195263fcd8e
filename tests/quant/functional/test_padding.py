"""Padding to the attention window, in both protocols."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.quant.functional.padding import pad_to_multiple


def image(height, width):
    return torch.arange(2.0 * 3 * height * width).reshape(2, 3, height, width)


@given(st.integers(8, 40), st.integers(8, 40), st.integers(1, 8))
def test_symmetric_is_flip_and_concatenate(height, width, window):
    """SwinIR's own test: the image beside its mirror image, cropped."""
    x = image(height, width)
    rows, columns = height + -height % window, width + -width % window
    literal = torch.cat([x, x.flip(2)], 2)[:, :, :rows]
    literal = torch.cat([literal, literal.flip(3)], 3)[:, :, :, :columns]
    assert torch.equal(pad_to_multiple(x, window), literal)


@given(st.integers(8, 40), st.integers(8, 40), st.integers(1, 8))
def test_reflect_is_basicsrs(height, width, window):
    """SwinIRModel pads with F.pad(mode='reflect')."""
    x = image(height, width)
    literal = F.pad(x, (0, -width % window, 0, -height % window), 'reflect')
    assert torch.equal(pad_to_multiple(x, window, 'reflect'), literal)


@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from(['symmetric', 'reflect']))
def test_images_smaller_than_the_padding(height, width, mode):
    """The mirror repeats: every row and column is one of the image, neighbours stay neighbours."""
    x = image(height, width)
    padded = pad_to_multiple(x, 8, mode)
    assert padded.shape[-2:] == (8, 8)
    assert torch.equal(padded[:, :, :height, :width], x)
    rows = [(x[0, 0, :, 0] == value).nonzero().item() for value in padded[0, 0, :, 0]]
    steps = {abs(a - b) for a, b in itertools.pairwise(rows)}
    assert steps <= ({0, 1} if mode == 'symmetric' or height == 1 else {1})


@pytest.mark.parametrize(('mode', 'expected'), [('symmetric', [0, 1, 2, 2, 1]), ('reflect', [0, 1, 2, 1, 0])])
def test_order(mode, expected):
    row = torch.arange(3.0).reshape(1, 1, 1, 3)
    assert pad_to_multiple(row.expand(1, 1, 5, 3), 5, mode)[0, 0, 0].tolist() == expected


def test_multiples_are_returned_as_they_are():
    x = image(16, 8)
    assert pad_to_multiple(x, 8) is x
