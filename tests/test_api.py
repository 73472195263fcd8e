"""The public API: what README shows, every form of images, and errors in one sentence."""

from __future__ import annotations

import copy
import doctest
import functools
import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_networks import TINY, pictures, tiny_edsr, tiny_swinir
from torch import nn

import compsrt_basicsr as compsrt
from compsrt_basicsr import api
from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.archs.spandrel_arch import build_spandrel
from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.calibrate import calibrate as calibrate_module
from compsrt_basicsr.quant.quantizer import quantizers

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures('no_kernels')  # which take a while to compile
QUICK = CalibrationConfig(num_patches=2, patch_size=16, candidates=10)


@pytest.fixture(scope='module')
def teacher(tmp_path_factory) -> LoadedNetwork:
    """A tiny SwinIR from a file; do not change it."""
    file = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save({'params': tiny_swinir().state_dict()}, file)
    return compsrt.load_network(file)


@pytest.fixture(scope='module')
def student(teacher) -> LoadedNetwork:
    return compsrt.compress(teacher, pictures(), calibration=QUICK)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two images of 20x24 and 17x40 pixels, RGB and grey."""
    images = tmp_path / 'images'
    images.mkdir()
    Image.fromarray(noise(20, 24, 3)).save(images / 'a.png')
    Image.fromarray(noise(17, 40)).save(images / 'b.png')
    return images


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def bounds(network: LoadedNetwork) -> torch.Tensor:
    return torch.cat([q.upper.flatten() for q in quantizers(network.network).values()])


def code_blocks(page: str, text: str) -> list[str]:
    found = re.findall(r'^```python\n(.*?)^```$', (ROOT / page).read_text(encoding='utf-8'), re.M | re.S)
    return [block for block in found if text in block]


def quick_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the defaults of calibration quick."""
    monkeypatch.setattr(api, 'CalibrationConfig', functools.partial(CalibrationConfig, num_patches=1, candidates=2))


def test_the_lines_of_readme(monkeypatch, tmp_path):
    quick_calibration(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'photos').mkdir()
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / 'photos/coffee.png')
    (block,) = code_blocks('README.md', 'import compsrt_basicsr as compsrt')
    exec(compile(block, 'README.md', 'exec'), {})
    assert [file.name for file in (tmp_path / 'enlarged').iterdir()] == ['coffee.png']
    assert Image.open(tmp_path / 'enlarged/coffee.png').size == (128, 128)
    assert compsrt.load_network('student.safetensors').kind == 'quantized'


@pytest.mark.parametrize('name', ['calibrate', 'compress', 'load_network', 'quantize_', 'save_packed', 'upscale'])
def test_the_examples_of_the_docstrings(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    function = getattr(compsrt, name)
    tests = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert sum(doctest.DocTestRunner().run(test).attempted for test in tests) > 1
    assert all(doctest.DocTestRunner().run(test).failed == 0 for test in tests)


def test_docs_api_is_that_of_the_docstrings():
    pytest.importorskip('griffe2md')
    sys.path.insert(0, str(ROOT / 'scripts'))
    try:
        script = importlib.import_module('make_api_docs')
    finally:
        sys.path.pop(0)
    assert script.PAGE.read_text(encoding='utf-8') == script.page(), 'Run python scripts/make_api_docs.py.'


def test_every_public_name_is_there():
    assert set(compsrt.__all__) <= set(dir(compsrt))
    assert all(getattr(compsrt, name) is not None for name in compsrt.__all__)
    with pytest.raises(AttributeError, match='quantise'):
        compsrt.quantise  # noqa: B018


def test_compress_leaves_the_teacher_alone(teacher, student):
    assert (teacher.kind, student.kind) == ('full precision', 'quantized')
    assert teacher.record['quant'] is None and student.record['quant']['weight_bits'] == 4
    assert not quantizers(teacher.network)
    assert all(q.is_calibrated for q in quantizers(student.network).values())
    assert not any(p.requires_grad for p in student.network.parameters())
    error = (compsrt.upscale(student, pictures()) - compsrt.upscale(teacher, pictures())).abs().mean()
    assert 0 < error < 0.05


def test_a_packed_student_computes_the_same(student, tmp_path):
    file = compsrt.save_packed(student, tmp_path / 'x.safetensors', rest='fp32')
    again = compsrt.load_network(file)
    assert again.record == student.record
    torch.testing.assert_close(compsrt.upscale(again, pictures()), compsrt.upscale(student, pictures()))


def test_quantizing_in_place_makes_the_registered_architecture(teacher):
    """`quantize_` of a SwinIR and `CompSRTSwinIR` with its weights compute the same."""
    mine = copy.deepcopy(teacher)
    names = compsrt.quantize_(mine, QuantConfig(weight_bits=3, act_bits=3))
    assert len(names) == 8 and 'layers.0.residual_group.blocks.0.attn.qkv' in names
    other = CompSRTSwinIR(**TINY, quant={'weight_bits': 3, 'act_bits': 3})
    other.load_state_dict(teacher.network.state_dict())
    for network in (mine, other):
        calibrate = compsrt.calibrate if network is mine else functools.partial(calibrate_module, progress=False)
        calibrate(network, pictures(), QUICK)
    with torch.no_grad():
        assert torch.equal(mine.network(pictures()), other.eval()(pictures()))


def test_a_module_without_a_file():
    network = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)))
    assert compsrt.quantize_(network, QuantConfig(quantize_convs=True)) == ['1']
    compsrt.calibrate(network, noise(20, 24, 3), QUICK)
    assert all(q.is_calibrated for q in quantizers(network).values())
    with pytest.raises(CompSRTError, match='architecture of this Sequential'):
        compsrt.save_packed(network, 'x.safetensors')


def test_networks_of_other_architectures_are_packed_by_their_record(tmp_path):
    compsrt.save_packed(tiny_edsr(), tmp_path / 'x.safetensors')
    assert compsrt.load_network(tmp_path / 'x.safetensors').record['arch'] == 'CompSRTNet'


def test_images_for_calibration_in_every_form(teacher, folder):
    rgb, grey = noise(20, 24, 3), noise(17, 40)
    forms = {
        'folder': folder,
        'text': str(folder),
        'files': sorted(folder.iterdir()),
        'arrays': [rgb, grey],
        'floats': [rgb / 255, grey / np.float32(255)],
        'uint16': [rgb * np.uint16(257), grey * np.uint16(257)],
        'mixed': [folder / 'a.png', grey],
    }
    found = {name: bounds(compsrt.compress(teacher, images, calibration=QUICK)) for name, images in forms.items()}
    for name, value in found.items():
        assert torch.equal(value, found['folder']), name
    one = [bounds(compsrt.compress(teacher, images, calibration=QUICK)) for images in (rgb, folder / 'a.png')]
    assert torch.equal(*one)


def test_a_tensor_goes_through_the_network_as_it_is(teacher):
    with torch.no_grad():
        expected = teacher.network(pictures(16, 24)).clamp(0, 1)
    torch.testing.assert_close(compsrt.upscale(teacher, pictures(16, 24)), expected)


def test_upscaled_forms_agree(teacher, folder, tmp_path):
    levels = noise(20, 24, 3)
    floats = levels.astype(np.float32) / 255
    batch = torch.from_numpy(floats).permute(2, 0, 1)[None]
    exact = compsrt.upscale(teacher, batch)
    assert exact.shape == (1, 3, 40, 48) and exact.dtype == torch.float32
    assert compsrt.upscale(teacher, batch.double()).dtype == torch.float64
    array = compsrt.upscale(teacher, floats)
    assert array.dtype == np.float32 and np.array_equal(array, exact[0].permute(1, 2, 0).numpy())
    rounded = compsrt.upscale(teacher, levels)
    assert np.array_equal(rounded, (array * np.float32(255)).round().astype(np.uint8))
    assert np.array_equal(compsrt.upscale(teacher, folder / 'a.png'), rounded)
    for image, name in ((folder / 'a.png', 'a.png'), (levels, 'b.png'), (floats, 'c.tiff')):
        (file,) = compsrt.upscale(teacher, image, tmp_path / name)
        assert np.array_equal(np.asarray(Image.open(file)), rounded), name


def test_grey_arrays_stay_grey(teacher):
    assert compsrt.upscale(teacher, noise(8, 9)).shape == (16, 18)
    assert compsrt.upscale(teacher, noise(8, 9, 1)).shape == (16, 18, 1)
    assert compsrt.upscale(teacher, noise(8, 9, 4)).shape == (16, 18, 4)


def test_a_folder_is_upscaled_again_and_again(teacher, folder, tmp_path):
    for _ in range(2):
        files = compsrt.upscale(teacher, folder, tmp_path / 'out')
        assert [file.name for file in files] == ['a.png', 'b.png']
    (folder / 'a.png').write_bytes(b'no image')
    (tmp_path / 'out/b.png').unlink()
    with pytest.raises(CompSRTError, match=r'a\.png'):
        compsrt.upscale(teacher, folder, tmp_path / 'out')
    assert (tmp_path / 'out/b.png').exists()


@pytest.mark.parametrize(
    ('call', 'culprit'),
    [
        (lambda n, f: compsrt.compress(n, f, weight_bitz=4), 'weight_bitz.*weight_bits'),
        (lambda n, f: compsrt.compress(n, f, weight_bits=9), 'weight_bits'),
        (lambda n, f: compsrt.compress(n, f / 'absent'), 'absent'),
        (lambda n, f: compsrt.compress(n, f, calibration=CalibrationConfig(patch_size=64)), '64x64'),
        (lambda n, f: compsrt.compress(n, torch.rand(1, 1, 16, 16)), r'\(1, 1, 16, 16\)'),
        (lambda n, f: compsrt.compress(n, torch.rand(1, 3, 12, 16)), 'multiples of 8'),
        (lambda n, f: compsrt.compress(n, torch.zeros(1, 3, 16, 16, dtype=torch.uint8)), 'uint8'),
        (lambda n, f: compsrt.compress(n, [noise(4, 4, 4, 4)]), r'\(4, 4, 4, 4\)'),
        (lambda n, f: compsrt.calibrate(n, pictures()), 'no quantizers'),
        (lambda n, f: compsrt.calibrate('x2', pictures()), 'got a str'),
        (lambda n, f: compsrt.save_packed(n, f / 'x'), 'not quantized'),
        (lambda n, f: compsrt.upscale(n.network, f), 'load_network'),
        (lambda n, f: compsrt.upscale(n, f), '`output`'),
        (lambda n, f: compsrt.upscale(n, f / 'absent.png'), 'absent.png'),
        (lambda n, f: compsrt.upscale(n, noise(8, 8, 3), f / 'x.gif'), r'x\.gif'),
        (lambda n, f: compsrt.upscale(n, noise(8, 8, 4), f / 'x.jpg'), 'alpha'),
        (lambda n, f: compsrt.upscale(n, noise(8, 8, 3), f / 'absent/x.png'), r'absent/x\.png'),
        (lambda n, f: compsrt.upscale(n, noise(8, 8, 3) * 1.0), r'divide by 255'),
        (lambda n, f: compsrt.upscale(n, np.full((8, 8), np.nan)), 'nan'),
        (lambda n, f: compsrt.upscale(n, np.zeros((8, 8, 4))), '4 channels'),
        (lambda n, f: compsrt.upscale(n, noise(8, 8).astype(np.int64)), 'int64'),
        (lambda n, f: compsrt.upscale(n, pictures(), f / 'x.png'), 'tensor'),
        (lambda n, f: compsrt.upscale(n, torch.rand(1, 4, 8, 8)), r'\(1, 4, 8, 8\)'),
        (lambda n, f: compsrt.upscale(n, noise(8, 8, 3), tile=1), 'tile'),
        (lambda n, f: compsrt.load_network('swinir_light_x2_hous'), 'swinir_light_x2_house'),
    ],
)
def test_errors_name_the_culprit(teacher, folder, call, culprit):
    with pytest.raises(CompSRTError, match=culprit):
        call(teacher, folder)


def test_a_quantized_network_is_not_quantized_again(student):
    with pytest.raises(CompSRTError, match='quantized already'):
        compsrt.compress(student, pictures())


def test_other_peoples_networks_are_compressed_and_packed(tmp_path):
    arguments = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_conv': 2, 'upscale': 2, 'act_type': 'prelu'}
    torch.manual_seed(0)
    torch.save({'params': build_spandrel('Compact', arguments).model.state_dict()}, tmp_path / 'their.pth')
    network = compsrt.load_network(tmp_path / 'their.pth')
    compressed = compsrt.compress(network, pictures(), calibration=QUICK, quantize_convs=True, weight_bits=8)
    assert compressed.record['args']['base']['arch'] == 'Compact' and network.kind == 'full precision'
    file = compsrt.save_packed(compressed, tmp_path / 'packed.safetensors', rest='fp32')
    image = noise(20, 24, 3)
    assert np.array_equal(compsrt.upscale(compsrt.load_network(file), image), compsrt.upscale(compressed, image))
