"""At a full disk every command ends with status 1 and one sentence, and goes on when it is given again.

Each saved file is flushed to the disk before it gets its name; here the n-th flush fails as on a full disk.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from compsrt_runs import make_teacher
from PIL import Image

from compsrt_basicsr.cli.compsrt import main
from compsrt_basicsr.inference.image_io import ImageFile, write_image_file
from compsrt_basicsr.study.bench.memory import Case, Memory
from compsrt_basicsr.study.bench.report import draw
from compsrt_basicsr.study.bench.timing import Measurement

COMMANDS = {
    'lr': ['data', 'lr', 'images', '-o', 'out', '--scale', '2'],
    'prepare': ['data', 'prepare', 'images', '-o', 'out', '--name', 'a', '--scale', '2', '--crop', '0'],
    'upscale': ['upscale', 'fp.pth', 'images', '-o', 'out'],
    'analyze': ['analyze', 'fp.pth', '-o', 'out', '--transform', 'auto', '--no-report'],
    'compare': ['compare', 'images/0.png', 'fp.pth', '-o', 'out/a.png', '--region', '0,0,16,16', '--dpi', '40'],
    'publish': ['zoo', 'add', 'fp.pth', '--name', 'mine', '--to', 'out'],
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with three images and a network."""
    (tmp_path / 'images').mkdir()
    values = np.random.default_rng(0).integers(0, 255, (3, 24, 16, 3), np.uint8)
    for number, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / f'images/{number}.png')
    make_teacher(tmp_path / 'fp.pth')
    (tmp_path / 'out').mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fill_disk(monkeypatch):
    """Returns a function after which the disk takes n more files, or any number."""
    flush = os.fsync

    def fill(left: int | None) -> None:
        count = 0

        def fsync(descriptor: int) -> None:
            nonlocal count
            count += 1
            if left is not None and count > left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            flush(descriptor)

        monkeypatch.setattr(os, 'fsync', fsync)

    return fill


def run(name: str) -> Result:
    return CliRunner().invoke(main, COMMANDS[name])


def assert_one_sentence(result: Result, place: str) -> None:
    assert result.exit_code == 1, result.output
    *before, error = [line for line in result.stderr.splitlines() if line]
    assert error.startswith('Error: ') and not any(line.startswith('Error') for line in before)
    assert place in error and 'fp.pth' not in error and '/.' not in error


def names(folder: Path) -> set[str]:
    """Returns the files below a folder that are not hidden."""
    return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file() and path.name[0] != '.'}


@pytest.mark.parametrize(('name', 'left'), [('lr', 0), ('lr', 2), ('upscale', 1), ('prepare', 0), ('prepare', 1),
                                            ('analyze', 0), ('analyze', 1), ('compare', 0), ('compare', 1),
                                            ('publish', 0), ('publish', 1), ('publish', 2)])  # fmt: skip
def test_the_same_command_goes_on(folder, fill_disk, name, left):
    fill_disk(left)
    assert_one_sentence(run(name), 'out')
    finished = names(folder / 'out')
    images = {file: (folder / 'out' / file).stat().st_ino for file in finished if name in ('lr', 'upscale')}
    fill_disk(None)
    result = run(name)
    assert result.exit_code == 0, result.output
    assert names(folder / 'out') > {file for file in finished if '.partial' not in file}
    assert {file: (folder / 'out' / file).stat().st_ino for file in images} == images  # not made again
    assert [path for path in (folder / 'out').iterdir() if path.name.startswith('.') and 'lock' not in path.name] == []
    if name in ('lr', 'upscale'):
        assert len(images) == left
        assert run(name).exit_code == 1  # complete: what is there is replaced with --force only


def test_bench_leaves_no_empty_figure(tmp_path, fill_disk):
    fill_disk(0)
    found = [Measurement(Case('fp32', 8, 1, 'cpu'), (0.1, 0.2), Memory(8, 8), 1.0, 9)]
    with pytest.raises(OSError, match='No space left'):
        draw(found, {'fp32': {'linear': 1.0}}, 'title', tmp_path / 'a.png')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['lr', 'upscale'])
def test_only_what_the_interrupted_command_wrote_is_kept(folder, fill_disk, name):
    """A result that somebody changed, and one of a changed source, are not taken for done."""
    fill_disk(2)
    assert run(name).exit_code == 1
    fill_disk(None)
    first, second = sorted((folder / 'out').glob('*.png'))
    data = first.read_bytes()
    first.write_bytes(data[:-1])
    assert run(name).exit_code == 1
    assert first.read_bytes() == data[:-1]
    first.unlink()
    Image.fromarray(np.zeros((24, 16, 3), np.uint8)).save(folder / 'images/1.png')
    before = second.read_bytes()
    assert run(name).exit_code == 1
    assert second.read_bytes() == before
    assert CliRunner().invoke(main, [*COMMANDS[name], '--force']).exit_code == 0
    assert second.read_bytes() != before


@pytest.mark.parametrize(
    ('file_format', 'dtype'),
    [*((kind, np.uint8) for kind in ('png', 'jpeg', 'webp', 'tiff', 'bmp')), ('png', np.uint16), ('tiff', np.uint16)],
)
def test_no_format_hides_that_the_disk_is_full(tmp_path, monkeypatch, file_format, dtype):
    values = np.random.default_rng(0).integers(0, 255, (200, 100, 3)).astype(dtype)
    monkeypatch.setattr(Path, 'open', lambda path, mode: open('/dev/full', mode))  # noqa: SIM115
    with pytest.raises(OSError, match='No space left') as caught:
        write_image_file(tmp_path / 'a', ImageFile(values, file_format))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / 'a'))
    assert list(tmp_path.iterdir()) == []
