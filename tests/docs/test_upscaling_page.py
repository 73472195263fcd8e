"""docs/upscaling.md: the output of the command, its options, and the numbers of the recorded measurement."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from conftest import ROOT
from PIL import Image

from compsrt_basicsr.cli.upscale import upscale
from compsrt_basicsr.inference.tiling import OVERLAP

PAGE = (ROOT / 'docs/upscaling.md').read_text(encoding='utf-8')
RECORD = json.loads((ROOT / 'docs/results/tiling.json').read_text())


def test_every_option_has_its_row():
    documented = {word for row in re.findall(r'^\| (`-.*?) \|', PAGE, re.M) for word in re.findall(r'`(-[-\w]+)', row)}
    assert documented == {name for p in upscale.params if p.param_type_name == 'option' for name in p.opts}


def test_the_table_is_that_of_the_record(monkeypatch):
    pytest.importorskip('skimage')
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    from measure_tiling import table

    shown = re.search(r'<!-- tiling -->\n\n(.*?)\n\n<!-- end of tiling -->', PAGE, re.S)[1]
    assert shown == table(RECORD)


def test_the_default_overlap_is_seamless_where_it_was_measured():
    for figures in RECORD['differences'].values():
        assert max(figures[str(OVERLAP)]['largest'].values()) <= 1


@pytest.mark.integration
def test_output_is_as_shown(tmp_path, run_command):
    (tmp_path / 'photos').mkdir()
    for name in ('a.png', 'b.jpg'):
        Image.new('RGB', (20, 16), 'olive').save(tmp_path / 'photos' / name)
    (tmp_path / 'photos/notes.png').write_text('no image')
    command, shown = re.search(r'```console\n\$ compsrt (.*?)\n(.*?)```', PAGE, re.S).groups()
    result = run_command(['python', '-m', 'compsrt_basicsr.cli.compsrt', *shlex.split(command)], tmp_path)
    lines = result.stderr.splitlines()
    assert [*lines[:-1], result.stdout.rstrip(), lines[-1]] == shown.splitlines()
    assert result.returncode == 1
