"""The command `basicsr`: usage, exit statuses, errors in one sentence, and training by scripts."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr import test as basicsr_test
from basicsr import train as basicsr_train
from conftest import ROOT, write_lmdb

from compsrt_basicsr.cli.basicsr import main
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.version import __version__


@pytest.fixture
def pipeline(monkeypatch):
    """Replaces BasicSR's pipelines by one that raises a given error; records command line and root."""
    calls = []

    def set_outcome(outcome=None):
        def run(root):
            calls.append((list(sys.argv), root))
            if outcome is not None:
                raise outcome

        monkeypatch.setattr(basicsr_train, 'train_pipeline', run)
        monkeypatch.setattr(basicsr_test, 'test_pipeline', run)
        monkeypatch.setattr(sys, 'argv', ['basicsr'])
        return calls

    return set_outcome


@pytest.mark.parametrize('command', ['train', 'test'])
def test_flags_and_root_reach_the_pipeline(pipeline, command, tmp_path, monkeypatch):
    calls = pipeline()
    monkeypatch.chdir(tmp_path)
    assert main([command, '-opt', 'x.yml', '--debug']) == 0
    assert calls == [([f'basicsr {command}', '-opt', 'x.yml', '--debug'], str(tmp_path))]


def test_help_and_version(capsys):
    assert main(['--help']) == 0
    assert 'basicsr COMMAND -opt FILE' in capsys.readouterr().out
    assert main(['--version']) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(('arguments', 'text'), [([], 'a command is missing'), (['trian'], 'unknown command `trian`')])
def test_wrong_usage(capsys, arguments, text):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert text in captured.err and not captured.out


def worker_error():
    """Returns a CompSRTError as a DataLoader worker hands it over."""
    from torch._utils import ExceptionWrapper

    try:
        try:
            raise KeyError('cause')
        except KeyError as cause:
            raise CompSRTError('The LMDB `x` is truncated.\n  - really') from cause
    except CompSRTError:
        wrapper = ExceptionWrapper(where='in DataLoader worker process 0')
    with pytest.raises(CompSRTError) as caught:
        wrapper.reraise()
    assert 'Traceback' in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ('outcome', 'status', 'text'),
    [
        (CompSRTError('`lr` is wrong.'), 1, 'Error: `lr` is wrong.\n'),
        (worker_error(), 1, 'Error: The LMDB `x` is truncated.\n  - really\n'),
        (MemoryError(), 1, 'Error: Out of memory'),
        (torch.OutOfMemoryError('CUDA out of memory'), 1, 'Error: Out of memory'),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, 'Error: Out of memory'),
        (OSError(errno.ENOSPC, 'No space', 'a.png'), 1, 'Error: The disk is full while writing `a.png`'),
        (KeyboardInterrupt(), 130, 'Interrupted: '),
    ],
)
def test_errors_become_one_sentence(pipeline, capsys, outcome, status, text):
    pipeline(outcome)
    assert main(['train', '-opt', 'x.yml']) == status
    captured = capsys.readouterr()
    assert captured.err.startswith(text) and 'Traceback' not in captured.err


@pytest.mark.parametrize('outcome', [RuntimeError('shape mismatch'), FileNotFoundError(2, 'gone'), KeyError('x')])
def test_bugs_keep_their_traceback(pipeline, outcome):
    pipeline(outcome)
    with pytest.raises(type(outcome)):
        main(['test', '-opt', 'x.yml'])


def test_missing_option_file_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['basicsr'])
    assert main(['train', '-opt', 'absent.yml']) == 1
    captured = capsys.readouterr()
    assert captured.err == 'Error: The option file `absent.yml` does not exist: check the path after -opt.\n'


BASICSR = ['python', '-m', 'compsrt_basicsr']


@pytest.mark.integration
def test_train_resume_and_test_by_command(run_command, tmp_path, stock_options, write_options):
    """Trains, goes on from the state, from a folder of the same name's own option file, and tests the result."""
    options = write_options(tmp_path / 'tiny.yml', stock_options)
    trained = run_command([*BASICSR, 'train', '-opt', options, '--force_yml', 'train:total_iter=2'], tmp_path)
    assert trained.returncode == 0, trained.stderr
    root = tmp_path / 'experiments' / 'tiny'
    assert (root / 'training_states' / '2.state').exists()
    assert not (root / 'training_states' / '4.state').exists()

    (root / 'training_states' / '9.state').write_bytes(b'truncated')
    resumed = run_command([*BASICSR, 'train', '-opt', root / 'tiny.yml', '--auto_resume'], tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert 'Resuming training from epoch: 0, iter: 2.' in resumed.stderr + resumed.stdout
    assert 'skips iteration 9' in resumed.stderr
    assert (root / 'models' / 'net_g_4.pth').exists()

    again = run_command([*BASICSR, 'train', '-opt', root / 'tiny.yml'], tmp_path)
    assert again.returncode == 0, again.stderr
    assert (root / 'tiny.yml').exists() and list(root.parent.glob('tiny_archived_*'))

    tested = {key: stock_options[key] for key in ('name', 'model_type', 'scale', 'num_gpu', 'network_g', 'val')}
    tested['datasets'] = {'test_1': stock_options['datasets']['val'], 'test_2': stock_options['datasets']['val']}
    tested['path'] = {'pretrain_network_g': str(root / 'models' / 'net_g_latest.pth'), 'param_key_g': 'params_ema'}
    result = run_command([*BASICSR, 'test', '-opt', write_options(tmp_path / 'test.yml', tested)], tmp_path)
    assert result.returncode == 0, result.stderr
    assert 'psnr' in result.stderr + result.stdout


@pytest.mark.integration
def test_fault_in_a_worker_by_command(run_command, tmp_path, stock_options, write_options):
    stock_options['datasets']['train']['num_worker_per_gpu'] = 1
    stock_options['datasets']['train']['gt_size'] = 128
    options = write_options(tmp_path / 'tiny.yml', stock_options)
    result = run_command([*BASICSR, 'train', '-opt', options], tmp_path)
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr and 'Error: The pair `' in result.stderr


@pytest.mark.integration
@pytest.mark.parametrize('model', ['SwinIRModel', 'CompSRTPretrainModel'])
def test_images_of_another_scale_leave_no_result(run_command, tmp_path, stock_options, write_options, model):
    """An x2 network on x4 images; and a metric that an image is too small for ends a training before it begins."""
    hr = [np.full((64, 64, 3), 9, np.uint8)]
    write_lmdb(tmp_path / 'hr.lmdb', hr)
    write_lmdb(tmp_path / 'lr.lmdb', [picture[::4, ::4] for picture in hr])
    sides = {'dataroot_gt': str(tmp_path / 'hr.lmdb'), 'dataroot_lq': str(tmp_path / 'lr.lmdb')}
    tested = {key: stock_options[key] for key in ('name', 'scale', 'num_gpu', 'network_g', 'val')}
    tested |= {'model_type': model, 'path': {'pretrain_network_g': None}}
    tested['datasets'] = {'test_1': {**stock_options['datasets']['val'], **sides}}
    result = run_command([*BASICSR, 'test', '-opt', write_options(tmp_path / 'test.yml', tested)], tmp_path)
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert 'Error: The data set `TinyVal`' in result.stderr and '4 times' in result.stderr
    assert not list(tmp_path.glob('results/*/*.json'))

    stock_options['model_type'] = model
    stock_options['val']['metrics']['niqe'] = {'type': 'calculate_niqe', 'crop_border': 2}
    trained = run_command([*BASICSR, 'train', '-opt', write_options(tmp_path / 'train.yml', stock_options)], tmp_path)
    assert trained.returncode == 1 and 'Traceback' not in trained.stderr
    assert '`val.metrics.niqe`' in trained.stderr and 'Start training' not in trained.stderr


OWN_RUN = """
import sys
import torch
import compsrt_basicsr

REGISTER
from basicsr.train import train_pipeline
from basicsr.utils.registry import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class CompSRTTinyConv(torch.nn.Module):
    def __init__(self, upscale, width=4):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 3, padding=1), torch.nn.ReLU(), torch.nn.Dropout(0.0),
            torch.nn.Conv2d(width, 3 * upscale**2, 3, padding=1), torch.nn.PixelShuffle(upscale))

    def forward(self, x):
        return self.body(x)


if __name__ == '__main__':
    train_pipeline(sys.argv.pop(1))
"""


@pytest.mark.integration
def test_resumed_run_of_ours_ends_with_the_same_weights(run_command, tmp_path, stock_options, write_options):
    """Eight iterations in one go, and four plus four, in the middle of an epoch: equal to the last bit.

    The first script, a process of its own, only imports the package, as scripts did before `register` existed.
    """
    stock_options['model_type'] = 'SRModel'
    stock_options['network_g'] = {'type': 'CompSRTTinyConv', 'upscale': 2}
    stock_options['train']['total_iter'] = 8
    stock_options['logger']['save_checkpoint_freq'] = 4
    options = write_options(tmp_path / 'tiny.yml', stock_options)
    ends = [['unbroken'], ['broken', '--force_yml', 'train:total_iter=4'], ['broken', '--auto_resume']]
    for root, *flags in ends:
        register = 'compsrt_basicsr.register()' if root == 'broken' else ''
        (tmp_path / 'own.py').write_text(OWN_RUN.replace('REGISTER', register))
        result = run_command(['python', 'own.py', root, '-opt', options, *flags], tmp_path, new=root == 'unbroken')
        assert result.returncode == 0, result.stderr
    unbroken, broken = (
        torch.load(tmp_path / root / 'experiments/tiny/models/net_g_8.pth', weights_only=True)['params']
        for root in ('unbroken', 'broken')
    )
    assert all(torch.equal(unbroken[key], broken[key]) for key in unbroken)
    assert 'Resuming training from epoch: 1, iter: 4' in result.stderr + result.stdout


@pytest.mark.integration
def test_a_training_that_is_terminated_ends_with_its_workers(tmp_path, stock_options, write_options):
    stock_options['datasets']['train']['num_worker_per_gpu'] = 2
    stock_options['train']['total_iter'] = 10**6
    stock_options['logger']['save_checkpoint_freq'] = 10**6
    command = [
        sys.executable,
        '-m',
        'compsrt_basicsr',
        'train',
        '-opt',
        write_options(tmp_path / 'o.yml', stock_options),
    ]
    with subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(ROOT)}, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if 'iter:' in line:
                break
        children: list[str] = []
        while not children:  # each epoch has workers of its own
            tasks = Path(f'/proc/{process.pid}/task').glob('*/children')
            children = [child for task in tasks for child in task.read_text().split()]
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors.splitlines()[-1].startswith('Terminated: ') and 'Traceback' not in errors
    deadline = time.monotonic() + 20  # a worker that is being ended may still be listed
    while any(Path('/proc', child).exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path('/proc', child).exists() for child in children)
