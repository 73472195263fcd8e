"""A lack of memory ends a command with one sentence, and is not taken for anything else."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from compsrt_runs import make_teacher
from PIL import Image, ImageFile

from compsrt_basicsr.checkpoints import load
from compsrt_basicsr.cli.compsrt import main

TORCH = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with two images and a network."""
    (tmp_path / 'images').mkdir()
    for number in range(2):
        Image.fromarray(np.full((24, 16, 3), number, np.uint8)).save(tmp_path / f'images/{number}.png')
    make_teacher(tmp_path / 'fp.pth')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def assert_says_memory(result: Result) -> None:
    assert result.exit_code == 1, result.output
    assert 'memory' in result.stderr.splitlines()[-1]
    assert result.stderr.startswith('Error: ') and result.stderr.count('\n') == 1


def failing(error: Exception):
    """Returns a function that raises an error, whatever it is called with."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_a_good_model_fits_its_architecture(folder, monkeypatch):
    """Building the network and moving it to its device run out of memory."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Linear, '__init__', failing(TORCH))
        assert_says_memory(run('analyze', 'fp.pth', '-o', 'out'))
    monkeypatch.setattr(load, 'build_network', failing(MemoryError()))
    assert_says_memory(run('upscale', 'fp.pth', 'images', '-o', 'out'))
    assert not (folder / 'out').exists()


@pytest.mark.parametrize('error', [MemoryError(), OSError('decoder error -9: out of memory error')])
def test_a_sound_image_is_not_left_out(folder, monkeypatch, error):
    prepare = ['data', 'prepare', 'images', '-o', 'out', '--name', 'a', '--scale', '2', '--crop', '0', '--skip-bad']
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, 'load', failing(error))
        result = run(*prepare)
        assert_says_memory(result)
        assert '0.png' in result.stderr
        assert_says_memory(run('data', 'lr', 'images', '-o', 'lr', '--scale', '2', '--skip-bad'))
    assert run(*prepare).stdout.startswith('Stored 2 entries from 2 images')


def test_export_does_not_ask_for_packages_that_are_there(folder, monkeypatch):
    real = builtins.__import__

    def import_module(name: str, *rest: object) -> object:
        if name.startswith('onnxruntime'):
            raise ImportError('libx.so: failed to map segment from shared object: Cannot allocate memory')
        return real(name, *rest)

    for name in [name for name in sys.modules if name.startswith('onnxruntime')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, '__import__', import_module)
    assert_says_memory(run('export', 'fp.pth', '-o', 'a.onnx'))


def test_upscaling_goes_on_with_the_next_image(folder, monkeypatch):
    from compsrt_basicsr.inference import batch

    real = batch.read_image_file

    def read(path: Path):
        return failing(MemoryError())() if path.name == '0.png' else real(path)

    monkeypatch.setattr(batch, 'read_image_file', read)
    result = run('upscale', 'fp.pth', 'images', '-o', 'out')
    assert result.exit_code == 1
    assert '0.png` and its result need more memory' in result.stderr
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert run('upscale', 'fp.pth', 'images', '-o', 'out').exit_code == 0
    assert sorted(path.name for path in (folder / 'out').iterdir()) == ['0.png', '1.png']


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (900 * 2**20,) * 2)
from compsrt_basicsr.cli.start import compsrt
compsrt()
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='the limit is that of Linux')
def test_an_image_larger_than_memory(run_command, tmp_path):
    """13,000×13,000 pixels in 1 bit are a small file, and 507 MB as RGB."""
    (tmp_path / 'images').mkdir()
    Image.new('1', (13000, 13000)).convert('P').save(tmp_path / 'images/large.png')
    done = run_command(['python', '-c', LIMITED, 'data', 'lr', 'images', '-o', 'lr', '--scale', '2'], tmp_path)
    assert (done.returncode, done.stderr.count('\n')) == (1, 1), done.stderr
    assert 'large.png` needs more memory' in done.stderr
    assert not list(tmp_path.glob('lr/*'))
