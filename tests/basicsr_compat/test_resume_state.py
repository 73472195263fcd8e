"""load_resume_state: the newest intact pair, errors for a named state, and no resuming of the teacher."""

import logging
import os

import pytest
import torch
from basicsr import train

from compsrt_basicsr.errors import CompSRTError


@pytest.fixture
def saved_run(tmp_path):
    """Options of a run with saved iterations 2, 4 and 10."""
    path = {'models': str(tmp_path / 'models'), 'training_states': str(tmp_path / 'states'), 'resume_state': None}
    for key in ('models', 'training_states'):
        os.mkdir(path[key])
    for iteration in (2, 4, 10):
        state = {'epoch': iteration // 3, 'iter': iteration, 'optimizers': [], 'schedulers': [], 'extra': torch.ones(9)}
        torch.save(state, tmp_path / 'states' / f'{iteration}.state')
        torch.save({'params': {'w': torch.ones(500)}}, tmp_path / 'models' / f'net_g_{iteration}.pth')
    return {'name': 'x', 'auto_resume': True, 'path': path, 'network_g': {}}


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def test_newest_state_is_found_from_any_folder(saved_run, tmp_path, monkeypatch):
    monkeypatch.chdir('/')
    assert train.load_resume_state(saved_run)['iter'] == 10
    assert saved_run['resume_from'] == {'epoch': 3, 'iter': 10}
    assert saved_run['path']['pretrain_network_g'] == str(tmp_path / 'models' / 'net_g_10.pth')
    assert saved_run['path']['resume_state'] == str(tmp_path / 'states' / '10.state')


@pytest.mark.parametrize('victim', ['states/10.state', 'models/net_g_10.pth'])
@pytest.mark.parametrize('harm', [cut, os.unlink])
def test_damaged_newest_pair_is_skipped_with_a_warning(saved_run, tmp_path, victim, harm, caplog):
    harm(tmp_path / victim)
    with caplog.at_level(logging.WARNING, logger='basicsr.compsrt'):
        assert train.load_resume_state(saved_run)['iter'] == 4
    assert saved_run['resume_from']['iter'] == 4
    assert ('skips iteration 10' in caplog.text) == (harm is cut or 'net' in victim)


def test_nothing_intact_starts_over(saved_run, tmp_path, caplog):
    for path in (tmp_path / 'states').iterdir():
        cut(path)
    with caplog.at_level(logging.WARNING, logger='basicsr.compsrt'):
        assert train.load_resume_state(saved_run) is None
    assert 'starts from the beginning' in caplog.text
    assert 'resume_from' not in saved_run and saved_run['path']['resume_state'] is None


def test_no_folder_and_foreign_files_are_no_states(saved_run, tmp_path):
    for path in (tmp_path / 'states').iterdir():
        path.unlink()
    (tmp_path / 'states' / '.12.state.tmp').write_text('')
    (tmp_path / 'states' / 'best.state').write_text('')
    assert train.load_resume_state(saved_run) is None
    saved_run['path']['training_states'] = str(tmp_path / 'absent')
    assert train.load_resume_state(saved_run) is None


def test_without_flag_or_path_nothing_is_resumed(saved_run):
    saved_run['auto_resume'] = False
    assert train.load_resume_state(saved_run) is None


def test_named_state_is_loaded_or_an_error(saved_run, tmp_path):
    saved_run['auto_resume'] = False
    saved_run['path']['resume_state'] = str(tmp_path / 'states' / '4.state')
    assert train.load_resume_state(saved_run)['iter'] == 4
    cut(tmp_path / 'models' / 'net_g_4.pth')
    with pytest.raises(CompSRTError, match=r'needs a network that cannot be read.*net_g_4\.pth'):
        train.load_resume_state(saved_run)
    cut(tmp_path / 'states' / '4.state')
    with pytest.raises(CompSRTError, match=r'4\.state` is truncated'):
        train.load_resume_state(saved_run)
    saved_run['path']['resume_state'] = str(tmp_path / 'states' / '5.state')
    with pytest.raises(CompSRTError, match=r'5\.state` does not exist'):
        train.load_resume_state(saved_run)
    saved_run['path']['resume_state'] = str(tmp_path / 'models' / 'net_g_10.pth')
    with pytest.raises(CompSRTError, match='is no training state'):
        train.load_resume_state(saved_run)


def test_teacher_keeps_its_own_file_and_key(saved_run):
    saved_run['network_t'] = {}
    saved_run['path'].update(pretrain_network_t='teacher.pth', param_key_t='params_ema', param_key_g='params_ema')
    train.load_resume_state(saved_run)
    path = saved_run['path']
    assert (path['pretrain_network_t'], path['param_key_t']) == ('teacher.pth', 'params_ema')
    assert path['param_key_g'] == 'params'
    assert path['ignore_resume_networks'] == ['network_t']
