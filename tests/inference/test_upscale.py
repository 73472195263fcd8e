"""One image through a network: tiles leave no seam, every kind of image keeps its kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from compsrt_basicsr.checkpoints.load import LoadedNetwork, load_network
from compsrt_basicsr.data import bicubic
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.upscale import UpscaleSettings, spread_colour, upscale
from compsrt_basicsr.quant.functional.padding import pad_to_multiple

NOISE = np.random.default_rng(0)


class Nearest(nn.Module):
    """Repeats every pixel; what it gets is what comes out."""

    def __init__(self, scale=2, channels=3):
        super().__init__()
        self.scale, self.channels = scale, channels
        self.weight = nn.Parameter(torch.ones(()))
        self.largest = 0

    def forward(self, x):
        assert x.shape[1] == self.channels and x.shape[2] % 8 == x.shape[3] % 8 == 0
        self.largest = max(self.largest, x.shape[2] * x.shape[3])
        return self.weight * x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


def model(network):
    record = {'arch': 'Nearest', 'args': {}, 'quant': None}
    return LoadedNetwork(network, network.scale, 8, network.channels, 'full precision', 'nearest', record)


@pytest.fixture(scope='module')
def house():
    return load_network('zoo://swinir_light_x2_house')


def photograph(name):
    skimage = pytest.importorskip('skimage')
    return bicubic.downscale(getattr(skimage.data, name)(), 2)[60:84, 60:164]


def test_tiles_leave_no_seam(house):
    """At most one grey level; without overlap the same tiles are far off, so the comparison can tell."""
    image = photograph('coffee')
    whole = upscale(house, image, UpscaleSettings(tile=0)).astype(int)
    assert np.abs(upscale(house, image, UpscaleSettings(tile=96)) - whole).max() <= 1
    assert np.abs(upscale(house, image, UpscaleSettings(tile=64, overlap=0)) - whole).max() > 1


def test_a_whole_image_is_the_networks_own_result(house):
    image = photograph('astronaut')[:13, :21]
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        y = house.network(pad_to_multiple(x, 8))[0, :, :26, :42]
    expected = (y.clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert np.array_equal(upscale(house, image), expected)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('kinds', [1, 2, 3, 4])
@pytest.mark.parametrize('taken', [1, 3])
@pytest.mark.parametrize('size', [(1, 1), (5, 7), (3, 300), (90, 61)])
def test_every_kind_at_every_size(size, taken, kinds, dtype):
    image = NOISE.integers(0, np.iinfo(dtype).max + 1, (*size, kinds)).astype(dtype)
    if kinds in (2, 4):
        image[:, :, -1] |= 1  # nothing fully transparent: colours stay
    result = upscale(model(Nearest(2, taken)), image, UpscaleSettings(tile=72))
    assert result.dtype == dtype
    colours = 1 if kinds < 3 else 3
    expected = image[:, :, :colours].repeat(2, 0).repeat(2, 1)
    assert np.array_equal(result[:, :, :colours], expected)
    if kinds in (2, 4):
        assert np.array_equal(result[:, :, -1], bicubic.upscale(image[:, :, -1], 2))


def test_the_network_never_sees_more_than_a_tile():
    network = Nearest()
    done = []
    upscale(model(network), np.zeros((80, 200, 3), np.uint8), UpscaleSettings(tile=75), done.append)
    assert network.largest == 72 * 72
    assert sum(done) == 80 * 200 and len(done) > 30


def test_hidden_colours_do_not_bleed():
    colour = np.zeros((9, 30, 3), np.uint8)
    alpha = np.zeros((9, 30), np.uint8)
    colour[:, :4], alpha[:, :4] = (200, 100, 50), 255
    colour[:, 25:] = 77
    result = spread_colour(colour, alpha)
    assert (result[:, :12] == (200, 100, 50)).all()
    assert np.array_equal(result[:, 12:], colour[:, 12:])
    assert not colour[:, 5].any(), 'the argument was changed'


@pytest.mark.parametrize('level', [0, 255])
def test_all_hidden_or_all_visible_stays(level):
    colour = NOISE.integers(0, 256, (5, 6, 3)).astype(np.uint8)
    assert np.array_equal(spread_colour(colour, np.full((5, 6), level, np.uint8)), colour)


def test_grey_with_hidden_pixels():
    image = np.dstack([np.full((8, 8), 90, np.uint8), np.full((8, 8), 255, np.uint8)])
    image[:, 4:] = 0
    assert (upscale(model(Nearest()), image)[:, :, 0] == 90).all()


def test_bf16_is_near(house):
    image = photograph('astronaut')[:16, :16]
    near, exact = upscale(house, image, UpscaleSettings(dtype='bf16')), upscale(house, image)
    assert np.abs(near.astype(int) - exact).mean() < 3  # bfloat16 has 8 bits of precision
    assert not np.array_equal(near, exact)


@pytest.mark.parametrize(('dtype', 'remedy'), [('bf16', 'give --dtype float32'), ('float32', 'weights of the model')])
def test_results_that_are_not_finite(dtype, remedy):
    network = Nearest()
    network.weight.data.fill_(float('nan'))
    with pytest.raises(CompSRTError, match=f'not finite, in {dtype}: .*{remedy}'):
        upscale(model(network), np.zeros((4, 4, 3), np.uint8), UpscaleSettings(dtype=dtype))


@pytest.mark.parametrize(
    'error',
    [
        MemoryError(),
        RuntimeError('DefaultCPUAllocator: not enough memory: you tried'),
        torch.OutOfMemoryError('CUDA out of memory'),
    ],
)
def test_lack_of_memory_is_one_sentence(error):
    class Greedy(Nearest):
        def forward(self, x):
            raise error

    with pytest.raises(CompSRTError, match=r'a tile of 8x16 pixels needs more memory .* smaller --tile'):
        upscale(model(Greedy()), np.zeros((9, 8, 3), np.uint8))


def test_other_errors_are_not_taken_for_it():
    class Faulty(Nearest):
        def forward(self, x):
            raise RuntimeError('an error of the program')

    with pytest.raises(RuntimeError, match='an error of the program'):
        upscale(model(Faulty()), np.zeros((8, 8, 3), np.uint8))


def test_what_does_not_fit_the_model():
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(CompSRTError, match='`--dtype fp16` needs a GPU'):
        upscale(model(Nearest()), image, UpscaleSettings(dtype='fp16'))
    with pytest.raises(CompSRTError, match='takes 4 channels'):
        upscale(replace(model(Nearest()), channels=4), image)
