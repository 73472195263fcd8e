"""Images to calibrate and to measure on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compsrt_basicsr.compression.images import calibration_patches, choose_images
from compsrt_basicsr.errors import CompSRTError


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(folder: Path, *images: np.ndarray) -> Path:
    for number, values in enumerate(images):
        Image.fromarray(values).save(folder / f'{number}.png')
    return folder


def smooth(seed: int) -> np.ndarray:
    small = Image.fromarray(noise(seed, 4, 4, 3))
    return np.asarray(small.resize((96, 80), Image.Resampling.BICUBIC))


def test_the_photographs_of_scikit_image() -> None:
    pytest.importorskip('skimage')
    images = choose_images(None, 3)
    assert len(images.calibration) == 5 and len(images.held_out) == 3
    for image in (*images.calibration, *images.held_out):
        assert image.original.shape[:2] == tuple(3 * side for side in image.small.shape[:2])
    patches = calibration_patches(images, 4, 32, 1)
    assert patches.shape == (4, 1, 32, 32)


def test_patches_have_detail(tmp_path: Path) -> None:
    flat = [np.full((96, 96, 3), 40 * seed, np.uint8) for seed in range(1, 5)]
    edges = np.kron(noise(0, 24, 24, 3), np.ones((4, 4, 1), np.uint8))
    images = choose_images(write(tmp_path, flat[0], edges, *flat[1:]), 1)
    patches = calibration_patches(images, 2, 32, 3)
    assert bool((patches.flatten(1).std(1) > 0.1).all()) and not torch.equal(*patches)


def test_held_out_images_do_not_calibrate(tmp_path: Path) -> None:
    images = choose_images(write(tmp_path, *(smooth(seed) for seed in range(7))), 2)
    calibration, held_out = ({image.name for image in some} for some in (images.calibration, images.held_out))
    assert len(held_out) == 2 and len(calibration) == 5 and not calibration & held_out
    assert images.calibration[0].small.shape == (40, 48, 3)


def test_grey_images_become_rgb(tmp_path: Path) -> None:
    images = choose_images(write(tmp_path, noise(0, 64, 64), noise(1, 64, 64)), 1)
    assert images.held_out[0].small.shape == (64, 64, 3)


def test_unusable_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompSRTError, match='at least two'):
        choose_images(write(tmp_path, smooth(0)), 2)
    with pytest.raises(CompSRTError, match='40x30'):
        choose_images(write(tmp_path, smooth(0), noise(0, 30, 40, 3)), 2)
    with pytest.raises(CompSRTError, match='alpha'):
        choose_images(write(tmp_path, smooth(0), noise(0, 80, 80, 4)), 2)
    with pytest.raises(CompSRTError, match='is not a folder'):
        choose_images(tmp_path / '0.png', 2)
    cut = (tmp_path / '0.png').read_bytes()
    (tmp_path / '1.png').write_bytes(cut[: len(cut) // 2])
    with pytest.raises(CompSRTError, match=r'1\.png.*truncated'):
        choose_images(tmp_path, 2)
    Image.fromarray(noise(0, 80, 80).astype(np.uint16) * 257).save(tmp_path / '1.png')
    with pytest.raises(CompSRTError, match=r'1\.png.*8 bits'):
        choose_images(tmp_path, 2)


@pytest.mark.parametrize('count', [3, 8])
def test_frames_of_a_video_are_refused(count: int, tmp_path: Path) -> None:
    frames = [np.roll(smooth(0), shift, 1) for shift in range(count)]
    with pytest.raises(CompSRTError, match='frames of one video'):
        choose_images(write(tmp_path, *frames), 2)
