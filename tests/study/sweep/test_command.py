"""`compsrt sweep` before any run starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from compsrt_runs import distillation_options, make_teacher
from conftest import LmdbPair

from compsrt_basicsr.cli.sweep import sweep
from compsrt_basicsr.errors import CompSRTError

BITS = {bits: {'network_g.quant.weight_bits': bits, 'network_g.quant.act_bits': bits} for bits in (4, 2)}


@pytest.fixture
def call(tmp_path: Path, tiny_lmdb: LmdbPair, monkeypatch: pytest.MonkeyPatch):
    """Calls the command in an empty folder, with a sweep file of these sections."""
    monkeypatch.chdir(tmp_path)
    pair = {'gt': str(tiny_lmdb.hr), 'lq': str(tiny_lmdb.lr)}
    base = distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))
    content = {'base': base, 'axes': {'bits': BITS}, 'datasets': {'train': pair, 'TinyVal': pair}}

    def invoke(*arguments: str, **sections: object) -> Result:
        Path('tiny.yml').write_text(json.dumps({**content, **sections}))
        return CliRunner().invoke(sweep, ['tiny.yml', *arguments])

    return invoke


@pytest.mark.parametrize(
    ('sections', 'culprit'),
    [
        ({'axes': {'bits': {4: {'network_g.quant.wieght_bits': 4}}}}, 'Did you mean `weight_bits`?'),
        ({'datasets': {'TinyVal': 'nowhere'}}, 'nowhere'),
        ({'slurm': {'partion': 'gpu'}}, '`slurm.partion`'),
    ],
)
def test_errors_come_before_any_run(call, sections: dict[str, object], culprit: str):
    result = call('-o', 'out', **sections)
    assert isinstance(result.exception, CompSRTError) and culprit in str(result.exception)
    assert not Path('out/work').exists()


def test_slurm_that_is_not_there(call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('PATH', '')
    result = call('--executor', 'slurm')
    assert isinstance(result.exception, CompSRTError) and 'slurm executor' in str(result.exception)


def test_a_folder_of_an_earlier_version_is_used(call):
    assert str(Path('sweeps/tiny').resolve()) in call('--dry-run').output
    Path('grids/tiny').mkdir(parents=True)
    output = call('--dry-run').output
    assert str(Path('grids/tiny').resolve()) in output and '`grids/tiny`' in output
    Path('sweeps/tiny').mkdir(parents=True)
    assert 'grids' not in call('--dry-run').output
