"""`basicsr train` and `basicsr test` given twice at the same time."""

import os
import subprocess
import sys
import time

import pytest
from compsrt_runs import distillation_options, make_teacher, options_for_testing
from conftest import ROOT

from compsrt_basicsr.utils.lock import locked

pytestmark = pytest.mark.integration
BASICSR = ['python', '-m', 'compsrt_basicsr']


@pytest.fixture
def options(tiny_lmdb, tmp_path):
    return distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))


def refused(result, sentences=1):
    assert result.returncode == 1 and 'Traceback (most' not in result.stderr, result.stderr[-2000:]
    assert result.stderr.count('experiments/tiny` is in use by process ') == sentences, result.stderr[-2000:]


def test_a_second_training_changes_nothing(run_command, write_options, options, tmp_path):
    """Also with --auto_resume; the first ends as if it were alone."""
    options['train']['total_iter'] = 250
    options['logger'] |= {'print_freq': 100, 'save_checkpoint_freq': 250}
    options['val']['val_freq'] = 250
    run_command([*BASICSR, '--version'], tmp_path)  # from here on commands start quickly
    train = [*BASICSR, 'train', '-opt', write_options(tmp_path / 'train.yml', options)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    first = subprocess.Popen([sys.executable, *map(str, train[1:])], cwd=tmp_path, env=environment)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / 'experiments/tiny/models').exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        for flags in ([], ['--auto_resume']):
            refused(run_command([*train, *flags], tmp_path))
        there = sorted(path.name for path in (tmp_path / 'experiments').iterdir())
        assert first.poll() is None, 'the first run was over before the others started'
        assert there == ['.tiny.lock', 'tiny']
        assert len(list((tmp_path / 'experiments/tiny').glob('*.log'))) == 1
        assert first.wait(300) == 0
    finally:
        first.kill()
    assert (tmp_path / 'experiments/tiny/models/net_g_latest.pth').exists()
    assert [path.name for path in (tmp_path / 'experiments').iterdir()] == ['tiny']


def test_two_processes_of_a_refused_run_end(run_command, write_options, options, tmp_path):
    file = write_options(tmp_path / 'train.yml', options)
    launch = ['python', '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', '-m', 'compsrt_basicsr']
    with locked(tmp_path / 'experiments/.tiny.lock', 'it'):
        command = [*launch, 'train', '-opt', file, '--launcher', 'pytorch']
        result = run_command(command, tmp_path, CUDA_VISIBLE_DEVICES='')
    assert result.returncode == 1
    assert result.stderr.count('Error: ') >= 1 and 'experiments/tiny` is in use by process ' in result.stderr
    assert not (tmp_path / 'experiments/tiny').exists()


def test_a_second_test_changes_nothing(run_command, write_options, options, tmp_path):
    file = write_options(tmp_path / 'test.yml', options_for_testing(options, tmp_path / 'teacher.pth'))
    with locked(tmp_path / 'results/.tiny.lock', 'it'):
        result = run_command([*BASICSR, 'test', '-opt', file], tmp_path)
        assert result.returncode == 1 and 'results/tiny` is in use by process ' in result.stderr
        assert [path.name for path in (tmp_path / 'results').iterdir()] == ['.tiny.lock']
