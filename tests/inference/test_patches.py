"""Patches of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import LmdbPair
from PIL import Image

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.patches import Patches


@pytest.fixture
def folder(tmp_path):
    """Three images whose red channel names them and whose other channels say where a pixel is."""
    for number, (height, width) in enumerate([(20, 30), (40, 16), (8, 90)]):
        rows, columns = np.mgrid[:height, :width]
        image = np.stack([np.full_like(rows, number), rows, columns], 2).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f'{number}.png')
    return tmp_path


def test_patches_are_cut_from_the_images(folder):
    patches = Patches(folder, 12, 16, 3, seed=0)
    found = [(patch * 255).round().int() for patch in patches]
    assert len(found) == len(patches) == 12
    for patch in found:
        assert patch.shape == (1, 3, 16, 16)
        assert int(patch[0, 0, 0, 0]) in (0, 1)  # the third image is too small
        top, left = int(patch[0, 1, 0, 0]), int(patch[0, 2, 0, 0])
        assert torch.equal(patch[0, 1, :, 0], torch.arange(top, top + 16).int())
        assert torch.equal(patch[0, 2, 0], torch.arange(left, left + 16).int())
    assert [int(patch[0, 0, 0, 0]) for patch in found].count(0) == 6  # each image as often as the other


def test_the_same_seed_gives_the_same_patches(folder):
    patches = Patches(folder, 8, 16, 3, seed=3)
    once, again = torch.cat(list(patches)), torch.cat(list(patches))
    assert torch.equal(once, again)
    assert torch.equal(once, torch.cat(list(Patches(folder, 8, 16, 3, seed=3))))
    assert not torch.equal(once, torch.cat(list(Patches(folder, 8, 16, 3, seed=4))))


def test_an_image_that_exif_rotates(tmp_path):
    """Stored as 64x16, seen as 16x64."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((16, 64, 3), np.uint8)).save(tmp_path / 'turned.jpg', exif=exif)
    assert all(patch.shape == (1, 3, 16, 16) for patch in Patches(tmp_path, 8, 16, 3, seed=0))


def test_grey_networks_get_grey(folder):
    patch = next(iter(Patches(folder, 1, 16, 1, seed=0)))
    assert patch.shape == (1, 1, 16, 16) and 0 <= float(patch.min()) <= float(patch.max()) <= 1


def test_grey_images_become_rgb(tmp_path):
    Image.fromarray(np.full((16, 16), 51, np.uint8)).save(tmp_path / 'grey.png')
    assert torch.equal(next(iter(Patches(tmp_path, 1, 16, 3, seed=0))), torch.full((1, 3, 16, 16), 0.2))


def test_an_lmdb(tiny_lmdb: LmdbPair):
    patches = Patches(tiny_lmdb.lr, 8, 16, 3, seed=0)
    found = torch.cat(list(patches))
    assert found.shape == (8, 3, 16, 16) and float(found.std()) > 0.01
    assert torch.equal(found, torch.cat(list(patches)))


def test_colours_of_an_lmdb_keep_their_order(tmp_path):
    from conftest import write_lmdb

    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 2] = 255  # BasicSR writes blue, green, red
    patch = next(iter(Patches(write_lmdb(tmp_path / 'red.lmdb', [red]), 1, 16, 3, seed=0)))
    assert patch[0, :, 0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ('prepare', 'sentence'),
    [
        (lambda folder: folder / 'absent', 'absent` is not a folder'),
        (lambda folder: folder, 'holds no image'),
        (lambda folder: folder / 'absent.lmdb', 'absent.lmdb` does not exist'),
    ],
)
def test_no_images(tmp_path, prepare, sentence):
    with pytest.raises(CompSRTError, match=sentence):
        Patches(prepare(tmp_path), 4, 16, 3, seed=0)


def test_images_that_are_too_small(folder):
    with pytest.raises(CompSRTError, match='has 64x64 pixels'):
        Patches(folder, 4, 64, 3, seed=0)


def test_a_truncated_image(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / 'a.png')
    (tmp_path / 'a.png').write_bytes((tmp_path / 'a.png').read_bytes()[:2000])
    with pytest.raises(CompSRTError, match=r'a\.png'):
        list(Patches(tmp_path, 1, 16, 3, seed=0))


def test_channels_of_no_image(folder):
    with pytest.raises(CompSRTError, match='4 channels'):
        Patches(folder, 1, 16, 4, seed=0)
