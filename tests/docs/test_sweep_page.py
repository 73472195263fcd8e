"""docs/grid.md: its grid runs, its output is that of the commands, its options are the real ones."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from compsrt_basicsr.cli.report import report
from compsrt_basicsr.cli.sweep import grid
from compsrt_basicsr.study.sweep.spec import _SECTIONS, read_grid

PAGE = (ROOT / 'docs/grid.md').read_text(encoding='utf-8')
PHOTOS = ('astronaut', 'coffee', 'motorcycle_left')
FIGURES = re.compile(r'\d+\.\d\d dB|done in \d+ s')


def test_options_and_sections_are_told():
    told = set(re.findall(r'(?<![-\w])--?[a-z][-a-z]*', PAGE))
    options = {p.opts[0] for command in (grid, report) for p in command.params if p.param_type_name == 'option'}
    assert options <= told
    rows = set(re.findall(r'^\| `(\w+)` \|', PAGE, re.M))
    assert rows == set(_SECTIONS) - {'name'}


def test_the_grid_is_one(tmp_path: Path):
    (tmp_path / 'options').mkdir()
    shutil.copy(ROOT / 'options/compsrt_x2_w4a4.yml', tmp_path / 'options')
    (tmp_path / 'photos.yml').write_text(block('yaml'))
    assert read_grid(tmp_path / 'photos.yml').test_sets == ('Photos',)


@pytest.mark.parametrize('file', sorted((ROOT / 'options/grids').glob('*.yml')), ids=lambda file: file.name)
def test_shipped_grids_are_named(file: Path):
    assert f'`{file.name}`' in PAGE
    assert yaml.safe_load(file.read_text())['full_precision'] is True


@pytest.mark.integration
@pytest.mark.timeout(3600)
def test_output_is_as_shown(tmp_path: Path, run_command):
    """But for seconds and decibels."""
    skimage = pytest.importorskip('skimage')
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'options').mkdir()
    shutil.copy(ROOT / 'options/compsrt_x2_w4a4.yml', tmp_path / 'options')
    for name in PHOTOS:
        shutil.copy(Path(skimage.__file__).parent / 'data' / f'{name}.png', tmp_path / 'photos')
    (tmp_path / 'photos.yml').write_text(block('yaml'))
    for console in re.findall(r'^```console\n(.*?)^```$', PAGE, re.M | re.S):
        command, _, shown = console.partition('\n')
        words = shlex.split(command)[2:]
        result = run_command(['python', '-m', 'compsrt_basicsr.cli.compsrt', *words], tmp_path, 3000)
        assert result.returncode == 0, result.stderr
        found = result.stdout.replace(f'{tmp_path}/', '$HOME/')
        assert FIGURES.sub('#', found) == FIGURES.sub('#', shown)


def block(language: str) -> str:
    return re.search(rf'^```{language}\n(.*?)^```$', PAGE, re.M | re.S)[1]
