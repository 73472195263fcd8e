"""The command `compsrt compare`, on tiny networks."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from compsrt_runs import make_teacher
from PIL import Image
from tiny_networks import tiny_quantized

from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.cli.compsrt import main
from compsrt_basicsr.data.bicubic import downscale, upscale
from compsrt_basicsr.inference.upscale import upscale as upscale_by
from compsrt_basicsr.study.compare.results import score

pytest.importorskip('matplotlib')


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """A teacher and a quantized network of scale 2, another teacher of scale 4."""
    folder = tmp_path_factory.mktemp('models')
    torch.save({'params': tiny_quantized().state_dict()}, folder / 'quantized.pth')
    make_teacher(folder / 'x2.pth')
    make_teacher(folder / 'x4.pth', upscale=4)
    return folder


@pytest.fixture
def image(tmp_path):
    """Smooth, 61x50: HR is cut to 60x50."""
    rows, columns = np.mgrid[:50, :61]
    values = [127 + 120 * np.sin(rows / a) * np.cos(columns / b) for a, b in ((5, 7), (9, 4), (6, 6))]
    Image.fromarray(np.stack(values, -1).astype(np.uint8)).save(tmp_path / 'a.png')
    return tmp_path / 'a.png'


def run(*arguments):
    return CliRunner().invoke(main, ['compare', *map(str, arguments)])


@pytest.fixture
def read(image):
    return np.asarray(Image.open(image))[:, :60]


def test_figure_json_and_tables(models, image, read, tmp_path):
    out = tmp_path / 'fig.png'
    result = run(image, models / 'quantized.pth', '--teacher', models / 'x2.pth', '-o', out, '--region-size', 12,
                 '--dpi', 50, '--execution', 'fake')  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f'Wrote {out} and {tmp_path / "fig.json"}.'
    assert struct.unpack('>I', out.read_bytes()[16:20])[0] == 360  # 7.2 inches
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.png', 'fig.json', 'fig.png']
    data = json.loads((tmp_path / 'fig.json').read_text())
    assert (data['width'], data['height'], data['scale']) == (60, 50, 2)
    assert [(r['label'], r['role'], r['execution']) for r in data['results']] == [
        ('bicubic', 'bicubic', None),
        ('teacher', 'teacher', 'float'),
        ('quantized', 'model', 'fake'),
    ]
    expected = score(upscale_by(load_network(models / 'quantized.pth'), downscale(read, 2)), read, 2)
    assert data['results'][2]['psnr_y'] == pytest.approx(expected.psnr)
    assert data['results'][2]['ssim_y'] == pytest.approx(expected.ssim)
    assert f'{expected.psnr:.2f}' in result.stdout
    assert len(data['regions']) == 2 and all(region['found'] for region in data['regions'])


def test_chosen_regions_labels_and_small_image(models, image, read, tmp_path):
    """The given small image is the one that is upscaled."""
    small = 255 - downscale(read, 2)
    Image.fromarray(small).save(tmp_path / 'small.png')
    result = run(image, models / 'x2.pth', '-o', tmp_path / 'f.svg', '--region', '0,0,20,15', '--region',
                 '40,35,20,15', '--label', 'ours $', '--lr', tmp_path / 'small.png', '--dpi', 50)  # fmt: skip
    assert result.exit_code == 0, result.output
    data = json.loads((tmp_path / 'f.json').read_text())
    bicubic, ours = data['results']
    assert ours['label'] == 'ours $' and data['lr'] == str(tmp_path / 'small.png')
    last = np.s_[35:50, 40:60]
    assert bicubic['regions'][1]['psnr_y'] == pytest.approx(score(upscale(small, 2)[last], read[last], 0).psnr)
    assert 'as chosen: A 0,0,20,15, B 40,35,20,15\n' in result.stdout


def test_a_grey_image_and_little_room(models, tmp_path):
    """Grey is measured as BasicSR's tests read it, in three channels."""
    grey = np.random.default_rng(0).integers(0, 256, (24, 30), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / 'grey.png')
    result = run(tmp_path / 'grey.png', models / 'x2.pth', '-o', tmp_path / 'f.png', '--region-size', 16, '--dpi', 30)
    assert result.exit_code == 0, result.output
    assert '(there was no room for 2)' in result.stdout
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    expected = score(upscale(downscale(colour, 2), 2), colour, 2)
    assert json.loads((tmp_path / 'f.json').read_text())['results'][0]['psnr_y'] == pytest.approx(expected.psnr)


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (['-o', 'fig.gif'], '`fig.gif` does not end in .png'),
        (['-o', 'gone/fig.png'], '`gone/fig.png`'),
        (['--region', '50,40,16,16'], '`--region 50,40,16,16` is not inside the image, whose 60x50 pixels'),
        (['--region', '1,2,3'], '`--region 1,2,3` is not X,Y,W,H'),
        (['--region-size', '64'], '64x64 does not fit into the image of 60x50'),
        (['--teacher', 'x4.pth'], 'x4.pth` has scale 4'),
        (['--teacher', 'gone.pth'], '`gone.pth` does not exist'),
        (['--lr', 'x.png'], '`x.png` does not exist'),
        (['--lr', 'a.png'], '`a.png` has 61x50 pixels, not the 30x25'),
        (['--label', 'a', '--label', 'b'], '2 `--label` for 1 model'),
        (['--label', ' '], "`--label` ' '"),
        (['--label', 'HR'], '`HR` would label two columns'),
        (['--tile', '10', '--region-size', '16'], '`tile` must be at least 72'),
        (['--device', 'abacus'], 'no device `abacus`'),
    ],
)
def test_errors_are_a_sentence_and_leave_nothing(models, image, tmp_path, monkeypatch, options, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'x4.pth').symlink_to(models / 'x4.pth')
    before = set(tmp_path.iterdir())
    out = [] if '-o' in options else ['-o', 'fig.png']
    result = run(image, models / 'x2.pth', *out, *options)
    assert result.exit_code == 1
    assert result.stderr.startswith('Error: ') and result.stderr.count('\n') == 1
    assert sentence in result.stderr
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ('name', 'content', 'sentence'),
    [
        ('gone.png', None, '`gone.png` does not exist'),
        ('.', None, '`.` is a folder'),
        ('text.png', b'no image', '`text.png` is'),
    ],
)
def test_input_that_is_no_image(models, tmp_path, monkeypatch, name, content, sentence):
    monkeypatch.chdir(tmp_path)
    if content:
        (tmp_path / name).write_bytes(content)
    result = run(name, models / 'x2.pth', '-o', 'fig.png')
    assert result.exit_code == 1 and sentence in result.stderr


def test_an_image_smaller_than_ssim_needs(models, tmp_path):
    Image.new('RGB', (15, 30)).save(tmp_path / 'a.png')
    result = run(tmp_path / 'a.png', models / 'x2.pth', '-o', tmp_path / 'fig.png')
    assert result.exit_code == 1 and 'is 14x30 after cutting to a multiple of 2, smaller than 15' in result.stderr


def test_two_models_of_one_name(models, image, tmp_path):
    result = run(image, models / 'x2.pth', models / 'x2.pth', '-o', tmp_path / 'fig.png')
    assert '`x2` would label two columns' in result.stderr


def test_the_figure_never_replaces_its_input(models, image):
    before = image.read_bytes()
    result = run(image, models / 'x2.pth', '-o', image)
    assert result.exit_code == 1 and 'would replace' in result.stderr
    assert image.read_bytes() == before


@pytest.mark.integration
def test_the_command_twice(models, image, tmp_path, run_command):
    """As a process of its own: nothing but the tables is printed, and figure and JSON are the same at every call."""
    command = ['python', '-m', 'compsrt_basicsr.cli.compsrt', 'compare', image, models / 'quantized.pth', '--teacher',
               models / 'x2.pth', '--region-size', 16, '--execution', 'fake', '-o', 'fig.pdf']  # fmt: skip
    written = []
    for _ in range(2):
        result = run_command(command, tmp_path)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ''
        written.append([(tmp_path / name).read_bytes() for name in ('fig.pdf', 'fig.json')])
    assert written[0] == written[1]
