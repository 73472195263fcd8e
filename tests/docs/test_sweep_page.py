"""docs/sweep.md: its sweep could run, its options and sections are the real ones."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT

from compsrt_basicsr.cli.report import report
from compsrt_basicsr.cli.sweep import sweep
from compsrt_basicsr.config.sweep import SweepOptions

PAGE = (ROOT / 'docs/sweep.md').read_text(encoding='utf-8')


def test_all_options_and_sections_are_listed():
    listed = set(re.findall(r'(?<![-\w])--?[a-z][-a-z]*', PAGE))
    options = {p.opts[0] for command in (sweep, report) for p in command.params if p.param_type_name == 'option'}
    assert options <= listed
    rows = set(re.findall(r'^\| `(\w+)` \|', PAGE, re.M))
    assert rows == {info.alias or name for name, info in SweepOptions.model_fields.items()} - {'name'}


def test_all_shipped_sweeps_are_listed():
    assert {file.name for file in (ROOT / 'options/sweeps').glob('*.yml')} <= set(re.findall(r'`(\w+\.yml)`', PAGE))


def test_dry_run_is_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / 'options').mkdir()
    shutil.copy(ROOT / 'options/compsrt_x2_w4a4.yml', tmp_path / 'options')
    (tmp_path / 'photos.yml').write_text(re.search(r'^```yaml\n(.*?)^```$', PAGE, re.M | re.S)[1])
    monkeypatch.chdir(tmp_path)
    shown = re.search(r'^\$ compsrt sweep photos.yml --dry-run\n(.*?)^```$', PAGE, re.M | re.S)[1]
    result = CliRunner().invoke(sweep, ['photos.yml', '--dry-run'])
    assert result.output.replace(str(tmp_path), '$HOME') == shown, result.output
