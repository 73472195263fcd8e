"""The patches of the calibration, and the file of metrics."""

import json
import random

import pytest
import torch
from conftest import training_dataset_options

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.models.calibration_data import calibration_patches
from compsrt_basicsr.models.metrics_file import write_metrics


@pytest.fixture
def opt(tiny_lmdb):
    options = training_dataset_options(tiny_lmdb)
    options.update(phase='train', scale=2)
    return {'scale': 2, 'datasets': {'train': options}}


def test_patches_are_a_function_of_the_seed(opt):
    first = calibration_patches(CalibrationConfig(num_patches=5), opt)
    random.seed(99)  # another place of the training's own stream
    again = calibration_patches(CalibrationConfig(num_patches=5), opt)
    other = calibration_patches(CalibrationConfig(num_patches=5, seed=1), opt)
    assert first.shape == (5, 3, 16, 16) and first.dtype == torch.float32
    assert 0 <= first.min() < first.max() <= 1
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_drawing_leaves_the_training_stream_alone(opt):
    before = random.getstate()
    calibration_patches(CalibrationConfig(num_patches=3), opt)
    assert random.getstate() == before


def test_patch_size_and_no_flips(opt):
    """Patches of another size; flips off, so that every patch is part of an image; options stay as they are."""
    kept = json.dumps(opt, sort_keys=True)
    patches = calibration_patches(CalibrationConfig(num_patches=4, patch_size=32), opt)
    assert patches.shape == (4, 3, 32, 32)
    assert json.dumps(opt, sort_keys=True) == kept
    whole = {**opt['datasets']['train'], 'phase': 'val'}
    from basicsr.data import build_dataset

    images = [item['lq'] for item in build_dataset(whole)]
    assert all(any(torch.equal(patch, image) for image in images) for patch in patches)


def test_patches_from_a_file(opt, tmp_path):
    saved = torch.rand(3, 3, 8, 8)
    torch.save({'lq': saved}, tmp_path / 'patches.pth')
    assert torch.equal(calibration_patches(CalibrationConfig(file=str(tmp_path / 'patches.pth')), opt), saved)


@pytest.mark.parametrize(
    ('content', 'text'),
    [
        ({'gt': torch.rand(1, 3, 8, 8)}, 'has no calibration patches: expected `lq`'),
        ({'lq': torch.rand(3, 8, 8)}, 'has no calibration patches'),
        ({'lq': torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, 'has no calibration patches'),
        ({'lq': [1]}, 'has no calibration patches'),
        (None, 'does not exist'),
        (b'PK\x03\x04 cut', 'truncated'),
    ],
)
def test_bad_files(opt, tmp_path, content, text):
    file = tmp_path / 'patches.pth'
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(CompSRTError, match=text):
        calibration_patches(CalibrationConfig(file=str(file)), opt)


def test_metrics_are_collected_in_one_file(tmp_path):
    opt = {'path': {'experiments_root': str(tmp_path)}}
    write_metrics(opt, 'Set5', 100, {'psnr': torch.tensor(30.5)})
    write_metrics(opt, 'Set5', 200, {'psnr': 31})
    write_metrics(opt, 'Set5', 200, {'psnr': 32})
    file = write_metrics(opt, 'Set14', 'test', {'ssim': 0.5})
    assert file == tmp_path / 'metrics.json'
    assert json.loads(file.read_text()) == {
        'Set5': {'100': {'psnr': 30.5}, '200': {'psnr': 32.0}},
        'Set14': {'test': {'ssim': 0.5}},
    }
    assert [p.name for p in tmp_path.iterdir()] == ['metrics.json']


def test_metrics_of_a_test_are_with_its_results(tmp_path):
    assert write_metrics({'path': {'results_root': str(tmp_path)}}, 'Set5', 'x', {}).parent == tmp_path
