"""The command `compsrt upscale`."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
import torch
from basicsr.archs.swinir_arch import SwinIR
from click.testing import CliRunner
from PIL import Image

from compsrt_basicsr.cli.compsrt import main
from compsrt_basicsr.hub.catalog import find


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    network = SwinIR(img_size=64, window_size=8, embed_dim=12, depths=[1], num_heads=[2], mlp_ratio=2.0, upscale=2,
                     upsampler='pixelshuffledirect')  # fmt: skip
    path = tmp_path_factory.mktemp('model') / 'tiny.pth'
    torch.save({'params': network.state_dict()}, path)
    return path


@pytest.fixture
def image(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(tmp_path / 'a.png')
    return tmp_path / 'a.png'


def run(*arguments):
    return CliRunner().invoke(main, ['upscale', *map(str, arguments)])


def test_success(checkpoint, image, tmp_path):
    result = run(checkpoint, image, '-o', tmp_path / 'out')
    assert (result.exit_code, result.stdout) == (0, f'Wrote 1 image to {tmp_path / "out"}.\n')
    assert result.stderr == 'Computing in float32, without tiles, with 1 thread.\n'
    assert Image.open(tmp_path / 'out/a.png').size == (24, 18)


def test_the_house_model_by_its_bare_name(image, tmp_path):
    assert run('swinir_light_x2_house', image, '-o', tmp_path / 'out').exit_code == 0


def test_failures_are_counted(checkpoint, image, tmp_path):
    (tmp_path / 'b.png').write_text('no image')
    result = run(checkpoint, image, tmp_path / 'b.png', tmp_path / 'c.png', '-o', tmp_path / 'out')
    assert result.exit_code == 1
    assert 'Wrote 1 image' in result.stdout
    lines = result.stderr.splitlines()
    assert [line.split(':')[0] for line in lines[1:]] == ['Failed', 'Failed', 'Error']
    assert lines[-1].startswith('Error: 2 of 3 inputs failed')


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (['--tile', '10'], '`tile` must be at least 72'),
        (['--scale', '4'], 'not 4: give a model of that scale, such as `swinir_light_x4_house_w4a4_p40`.'),
        (['--scale', '8'], 'upscales by 2, not 8: give a model of that scale.'),
        (['--dtype', 'fp16', '--device', 'cpu'], 'fp16` needs a GPU'),
        (['--device', 'abacus'], 'no device `abacus`'),
        (['--device', 'cuda:99'], 'no device `cuda:99`'),
    ],
)
def test_bad_options(checkpoint, image, tmp_path, options, sentence):
    result = run(checkpoint, image, '-o', tmp_path / 'out', *options)
    assert result.exit_code == 1
    assert result.stderr.startswith('Error: ') and result.stderr.count('\n') == 1
    assert sentence in result.stderr
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(('model', 'sentence'), [('swinir_light_x2_hose', 'Did you mean `swinir_light_x2_house`'),
                                                 ('gone.pth', '`gone.pth` does not exist')])  # fmt: skip
def test_bad_models(image, tmp_path, model, sentence):
    result = run(model, image, '-o', tmp_path / 'out')
    assert result.exit_code == 1 and sentence in result.stderr


def test_images_without_a_model(image, tmp_path):
    result = run(image, '-o', tmp_path / 'out', '--scale', '3')
    assert result.exit_code == 1 and result.stderr == (
        f'Error: Only `{image}` is given: `compsrt upscale` takes images after a model, such as '
        '`swinir_light_x3_house_w4a4_p40`.\n'
    )
    for name in [word.strip('`') for word in run(image, '-o', tmp_path / 'out').stderr.split() if 'house' in word]:
        assert find(name.rstrip('.`')).is_here


@pytest.mark.integration
def test_ctrl_c(tmp_path, command_server):
    """The image takes minutes; the signal comes while the network is at work."""
    Image.fromarray(np.zeros((1500, 1500, 3), np.uint8)).save(tmp_path / 'a.png')

    def interrupt(pid):
        time.sleep(4)
        os.kill(pid, signal.SIGINT)

    words = ['upscale', 'swinir_light_x2_house', 'a.png', '-o', 'out']
    process = command_server.run('compsrt_basicsr.cli.compsrt', words, tmp_path, during=interrupt)
    assert process.returncode == 130
    assert process.stderr.splitlines()[-1].startswith('Interrupted: ') and 'Traceback' not in process.stderr
    assert list(tmp_path.rglob('out/*')) == []
