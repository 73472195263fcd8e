"""The table of the packaged teacher measures what its record lacks, and nothing twice."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'scripts'))

import packaged_table  # noqa: E402


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A table whose commands are listed instead of run, and leave the metrics of a test."""
    made = packaged_table.Table(tmp_path, threads=1)
    calls = []

    def command(arguments: list[str]) -> None:
        calls.append(arguments)
        name = next((a.removeprefix('name=') for a in arguments if a.startswith('name=')), '')
        if arguments[1] == 'test':
            folder = tmp_path / 'results' / name
            folder.mkdir(parents=True)
            (folder / 'metrics.json').write_text(json.dumps({'Set5': {name: {'psnr': 30.0}}}))

    monkeypatch.setattr(made, 'command', command)
    return made, calls


def test_a_setting_is_calibrated_distilled_and_tested_once(table):
    made, calls = table
    packaged_table.measure(made, 'paper', 3)
    assert [c[1] for c in calls] == ['train', 'test', 'train', 'test', 'test']
    assert all('options/paper/' in c[3] and 'x2_w3a3' in c[3] for c in calls)
    assert set(made.rows()) == {f'paper_w3a3_{stage}' for stage in ('minmax', 'calibrated', 'distilled')}
    packaged_table.measure(made, 'paper', 3)
    assert len(calls) == 5


def test_pruned_settings_have_files_and_rows_of_their_own(table):
    made, calls = table
    packaged_table.measure(made, 'strict', 4, pruned=True)
    assert set(made.rows()) == {f'strict_w4a4_p40_{stage}' for stage in ('minmax', 'calibrated', 'distilled')}
    assert all(c[3].endswith('compsrt_x2_w4a4_p40.yml') and Path(c[3]).exists() for c in calls)


def test_rows_of_an_earlier_record_are_kept_if_the_protocol_is_the_same(table, tmp_path: Path):
    made, calls = table
    rows = {f'strict_w4a4_{stage}': {'psnr': 1.0} for stage in ('minmax', 'calibrated', 'distilled')}
    record = tmp_path / 'record.json'
    record.write_text(json.dumps({'protocol': {**packaged_table.PROTOCOL, 'iterations': 1}, 'rows': rows}))
    made.adopt(record)
    assert made.rows() == {}
    record.write_text(json.dumps({'protocol': packaged_table.PROTOCOL, 'rows': rows}))
    made.adopt(record)
    packaged_table.measure(made, 'strict', 4)
    assert calls == []


def test_forced_options_say_the_protocol(table):
    made, calls = table
    packaged_table.train(made, 'strict', 'w2a2', 'run')
    forced = dict(entry.split('=', 1) for entry in calls[0][calls[0].index('--force_yml') + 1 :])
    assert int(forced['train:total_iter']) == packaged_table.PROTOCOL['iterations']
    assert int(forced['manual_seed']) == packaged_table.PROTOCOL['seed']
    assert json.loads(forced['datasets'])['train']['batch_size_per_gpu'] == packaged_table.PROTOCOL['batch']
    assert json.loads(forced['train:scheduler:periods']) == [packaged_table.PROTOCOL['iterations']]


@pytest.mark.parametrize(('recipe', 'trainable'), [('strict', 'quantizers'), ('paper', None)])
def test_both_ranges_are_trained_as_published(table, recipe, trainable):
    """Strict files refit and train the weights; this table compares code ranges, so it does not."""
    made, calls = table
    packaged_table.train(made, recipe, 'w2a2', 'run')
    forced = dict(entry.split('=', 1) for entry in calls[0][calls[0].index('--force_yml') + 1 :])
    assert forced.get('train:trainable') == trainable
    assert (forced.get('calibration:reconstruct') == 'false') == (recipe == 'strict')
    assert forced['network_g:quant:softmax'] == 'normalized'
