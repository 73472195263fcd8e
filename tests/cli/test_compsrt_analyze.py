"""The command `compsrt analyze`."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from conftest import LmdbPair
from tiny_networks import tiny_quantized, tiny_swinir

from compsrt_basicsr.cli.compsrt import main
from compsrt_basicsr.utils.lock import locked


def run(*arguments):
    return CliRunner().invoke(main, ['analyze', *map(str, arguments), '--no-report'])


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('model') / 'tiny.pth'
    torch.save({'params': tiny_swinir().state_dict()}, path)
    return path


@pytest.fixture(scope='module')
def done(checkpoint, tiny_lmdb: LmdbPair, tmp_path_factory):
    out = tmp_path_factory.mktemp('analysis') / 'out'
    options = ('--transform', 'exact', '--patches', 2, '--patch-size', 16, '--sample', 100)
    return out, run(checkpoint, '-o', out, '--data', tiny_lmdb.lr, *options)


def test_a_full_precision_network(done):
    out, result = done
    assert result.exit_code == 0, result.output
    assert 'weight (12)' in result.output and 'activation (16)' in result.output
    assert f'Wrote analysis.json, analysis.csv to {out}.' in result.output
    found = json.loads((out / 'analysis.json').read_text())
    assert found['transforms'] == ['none', 'auto'] and len(found['tensors']) == 32
    assert sorted(path.name for path in out.iterdir()) == ['analysis.csv', 'analysis.json']


def test_an_analysis_is_not_lost(done, checkpoint):
    out, _ = done
    result = run(checkpoint, '-o', out)
    assert result.exit_code == 1
    assert result.stderr == f'Error: `{out}` holds an analysis: give another folder, or --force to replace it.\n'


def test_weights_of_a_quantized_network(tmp_path):
    torch.save({'params': tiny_quantized().state_dict()}, tmp_path / 'tiny.pth')
    result = run(tmp_path / 'tiny.pth', '-o', tmp_path / 'out', '--transform', 'dct')
    assert result.exit_code == 0, result.output
    assert 'The model is quantized' in result.output
    assert 'Only weights were analysed' in result.output


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (['--transform', 'hadamrd'], "got 'hadamrd'"),
        (['--patch-size', '20', '--data', '.'], '`--patch-size` 20 must be a multiple of 8'),
        (['--data', 'absent'], '`absent` is not a folder'),
        (['--data', '.'], '`.` holds no image'),
        (['--patches', '0'], '`--patches` must be from 1'),
    ],
)
def test_errors_are_sentences(checkpoint, options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(checkpoint, '-o', 'out', *options)
    assert result.exit_code == 1 and sentence in result.stderr and 'Traceback' not in result.stderr
    assert not (tmp_path / 'out').exists()


def test_a_file_where_the_folder_should_be(checkpoint, tmp_path):
    (tmp_path / 'out').write_text('mine')
    result = run(checkpoint, '-o', tmp_path / 'out')
    assert result.exit_code == 1 and 'is a file: give a folder for the results' in result.stderr


def test_broken_tensors_are_reported(tmp_path):
    network = tiny_swinir()
    name = 'layers.0.residual_group.blocks.0.attn.proj.weight'
    network.state_dict()[name].fill_(float('nan'))
    torch.save({'params': network.state_dict()}, tmp_path / 'tiny.pth')
    result = run(tmp_path / 'tiny.pth', '-o', tmp_path / 'out', '--transform', 'dct')
    assert result.exit_code == 0, result.output
    assert f'`{name}_quantizer`: It holds NaN or infinite values.' in result.output


def test_two_analyses_of_one_folder(checkpoint, tmp_path):
    out = tmp_path / 'out'
    with locked(out / '.analyze.lock', 'it'):
        result = run(checkpoint, '-o', out, '--force')
        assert result.exit_code == 1 and f'Error: `{out}` is in use by process ' in result.stderr
        assert [path.name for path in out.iterdir()] == ['.analyze.lock']
