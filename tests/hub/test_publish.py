"""`compsrt zoo`: its commands, and a model of one's own from file to name."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
import torch
import web_server
from click.testing import CliRunner
from compsrt_runs import make_teacher
from tiny_networks import tiny_quantized

from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.cli.compsrt import main
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.catalog import find, local_zoo
from compsrt_basicsr.hub.entry import Entry
from compsrt_basicsr.hub.index import read_index
from compsrt_basicsr.hub.publish import publish, read_quality


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv('COMPSRT_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('COMPSRT_OFFLINE', '0')
    monkeypatch.delenv('COMPSRT_ZOO', raising=False)
    return tmp_path / 'home'


def compsrt(*arguments):
    """Runs a command; returns exit status and everything printed."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def checkpoint(tmp_path):
    file = tmp_path / 'net_g_latest.pth'
    torch.save({'params': tiny_quantized({'weight_bits': 3, 'act_bits': 4}).state_dict()}, file)
    return file


def test_a_model_is_published_and_found_by_name(checkpoint, tmp_path):
    metrics = tmp_path / 'metrics.json'
    runs = {
        '1': {'psnr': 20.0, 'ssim': 0.1},
        'test': {'psnr': 36.5, 'ssim': 0.9, 'levels_max': 8.0, 'levels_over': 0.0},
    }
    metrics.write_text(json.dumps({'Set5': runs}))
    words = ('--name', 'mine', '--metrics', metrics, '--licence', 'MIT', '--origin', 'a test', '--notes', 'Tiny.')
    status, output = compsrt('zoo', 'add', checkpoint, *words)
    assert status == 0 and 'mine.pth' in output
    entry = find('zoo://mine').entry
    assert (entry.kind, entry.scale, entry.bits, entry.licence) == ('quantized', 2, 'w3a4', 'MIT')
    assert entry.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert entry.quality == {'Set5': runs['test']} and entry.protocol == 'Y channel, border 2, symmetric padding'
    assert read_state('zoo://mine').keys() == torch.load(checkpoint)['params'].keys()
    card = (local_zoo() / 'mine.md').read_text(encoding='utf-8')
    for words in (
        '`zoo://mine`',
        'weights 3, activations 4',
        '| Set5 | 36.50',
        '| quantization | weight_bits 3',
        'Tiny.',
    ):
        assert words in ' '.join(card.split())
    assert compsrt('zoo', 'verify', 'mine') == (0, 'mine: ok\n')
    status, output = compsrt('zoo', 'path', 'mine')
    assert output.strip() == str(local_zoo() / 'mine.pth')


def test_others_take_it_from_a_web_server(checkpoint, tmp_path, monkeypatch, home):
    compsrt('zoo', 'add', checkpoint, '--name', 'mine', '--to', tmp_path / 'served')
    with web_server.running_server() as server:
        server.files |= {f'zoo/{file.name}': file.read_bytes() for file in (tmp_path / 'served').iterdir()}
        monkeypatch.setenv('COMPSRT_ZOO', server.url('zoo'))
        assert compsrt('zoo', 'path', 'mine')[0] == 1
        status, output = compsrt('zoo', 'download', 'mine')
        assert status == 0 and 'as published' in output
        assert load_network('zoo://mine').scale == 2
        assert 'mine ' in compsrt('zoo', 'list', '--kind', 'quantized')[1]
        assert str(home / 'models/mine/mine.pth') in compsrt('zoo', 'show', 'mine')[1]


def test_a_teacher_is_one(tmp_path):
    compsrt('zoo', 'add', make_teacher(tmp_path / 't.pth'), '--name', 'tiny_teacher')
    assert find('tiny_teacher').entry.kind == 'teacher' and find('tiny_teacher').entry.bits == 'fp'


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (('add', 'absent.pth', '--name', 'x'), 'does not exist'),
        (('add', 'CHECKPOINT', '--name', '../x'), '`name`: must be'),
        (('add', 'CHECKPOINT', '--name', 'swinir_light_x2', '--force'), 'is a model of the package'),
        (('add', 'CHECKPOINT', '--name', 'x.pth'), 'looks like a file'),
        (('add', 'CHECKPOINT', '--name', 'x', '--metrics', 'absent.json'), r'`absent.json` does not exist'),
        (('add', 'CHECKPOINT', '--name', 'x', '--metrics', 'CHECKPOINT'), 'is not a metrics.json'),
        (('list', '--scale', '7'), 'No model of that kind and scale'),
        (('show', 'swinir_ligth_x2'), 'Did you mean `swinir_light_x2`'),
        (('download', 'swinir_light_x2_house', 'nothing'), 'no model `nothing`'),
        (('verify', 'swinir_light_x2'), 'Missing or altered: 1 of 1 model'),
        (('path', 'swinir_light_x2'), '`compsrt zoo download swinir_light_x2` fetches it'),
    ],
)
def test_faults_are_a_sentence_and_publish_nothing(checkpoint, arguments, text):
    words = [checkpoint if word == 'CHECKPOINT' else word for word in arguments]
    status, output = compsrt('zoo', *words)
    assert status == 1 and text in output and 'Traceback' not in output
    assert read_index(local_zoo()) == {}


def entry(**changes):
    return Entry(**{'name': 'mine', 'kind': 'quantized', 'file': 'x', 'scale': 2, 'architecture': 'X', **changes})


def test_a_name_is_taken_once_unless_forced(tmp_path):
    first, second = tmp_path / 'a.pth', tmp_path / 'b.safetensors'
    first.write_bytes(b'first')
    second.write_bytes(b'second')
    publish(first, entry(), tmp_path / 'zoo')
    with pytest.raises(CompSRTError, match='has a model `mine` already'):
        publish(second, entry(), tmp_path / 'zoo')
    publish(second, entry(), tmp_path / 'zoo', force=True)
    publish(first, entry(name='other'), tmp_path / 'zoo')
    files = sorted(path.name for path in (tmp_path / 'zoo').iterdir() if not path.name.startswith('.'))
    assert files == ['index.yml', 'mine.md', 'mine.safetensors', 'other.md', 'other.pth']
    assert list(read_index(tmp_path / 'zoo')) == ['mine', 'other']


def test_a_name_that_another_zoo_answers_to_is_reported(checkpoint, tmp_path, monkeypatch):
    """The name of the package is refused: nobody could reach the model. Other zoos depend on the machine."""
    monkeypatch.setenv('COMPSRT_ZOO', str(tmp_path / 'later'))
    compsrt('zoo', 'add', checkpoint, '--name', 'mine')
    status, output = compsrt('zoo', 'add', checkpoint, '--name', 'mine', '--to', tmp_path / 'later')
    assert status == 0 and f'`mine` is still that of {local_zoo()}' in output
    status, output = compsrt('zoo', 'add', checkpoint, '--name', 'other', '--to', tmp_path / 'later')
    assert status == 0 and 'still' not in output
    with pytest.raises(CompSRTError, match='`swinir_light_x2_house` is a model of the package'):
        publish(checkpoint, entry(name='swinir_light_x2_house'), tmp_path / 'elsewhere')


def test_files_of_a_zoo_do_not_collide(checkpoint, tmp_path):
    """Neither with the index and the cards, nor, on disks that ignore case, with each other."""
    zoo = tmp_path / 'zoo'
    odd = tmp_path / 'odd.yml'
    odd.write_bytes(checkpoint.read_bytes())
    assert publish(odd, entry(name='index'), zoo).file == 'index.pth'
    with pytest.raises(CompSRTError, match='has a model `index`'):
        publish(odd, entry(name='Index'), zoo)
    assert list(read_index(zoo)) == ['index'] and (zoo / 'index.pth').read_bytes() == odd.read_bytes()


def test_an_interrupted_publication_lists_nothing(tmp_path, monkeypatch):
    file = tmp_path / 'a.pth'
    file.write_bytes(b'weights')
    monkeypatch.setattr(os, 'replace', lambda *_: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
    with pytest.raises(OSError):
        publish(file, entry(), tmp_path / 'zoo')
    assert read_index(tmp_path / 'zoo') == {}
    assert not (tmp_path / 'zoo').exists()


@pytest.mark.parametrize('content', ['[1]', '{"Set5": {}}', '{"Set5": 3}', 'x', '{"Set5": {"a": 3}}'])
def test_metrics_of_another_form_are_refused(tmp_path, content):
    (tmp_path / 'm.json').write_text(content)
    with pytest.raises(CompSRTError, match='is not a metrics'):
        read_quality(tmp_path / 'm.json')


@pytest.mark.parametrize('value', ['null', 'NaN', 'Infinity'])
def test_metrics_that_are_not_finite_are_named(tmp_path, value):
    (tmp_path / 'm.json').write_text(f'{{"Set5": {{"test": {{"ssim": 0.9, "psnr": {value}}}}}}}')
    with pytest.raises(CompSRTError, match='`psnr` of `Set5`'):
        read_quality(tmp_path / 'm.json')
