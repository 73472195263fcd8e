"""Errors of BasicSR, torch, OpenCV and the system: which become a sentence, and which keep their traceback."""

import errno

import pytest
from basicsr.utils import img_util

from compsrt_basicsr.basicsr_compat.error_messages import sentence, stage
from compsrt_basicsr.errors import CompSRTError


def caught(function, *arguments):
    with pytest.raises(Exception) as info:
        function(*arguments)
    return info.value


@pytest.mark.parametrize('code', [errno.EACCES, errno.EROFS, errno.EEXIST, errno.ENAMETOOLONG, errno.EMFILE, errno.EIO])
def test_what_the_system_refuses_for_a_file(code):
    assert '`experiments/x`' in sentence(OSError(code, 'refused', 'experiments/x'))
    assert sentence(OSError(code, 'refused')) is None


def test_a_folder_that_cannot_be_made(tmp_path):
    """Even root cannot make a folder below a file."""
    from basicsr.utils import make_exp_dirs

    (tmp_path / 'experiments').write_bytes(b'')
    opt = {'is_train': True, 'path': {'experiments_root': str(tmp_path / 'experiments/run')}}
    assert f'`{tmp_path}/experiments' in sentence(caught(make_exp_dirs, opt))


def test_an_image_that_opencv_cannot_write(tmp_path, monkeypatch):
    monkeypatch.setattr(img_util.cv2, 'imwrite', lambda *_: False)
    assert f'`{tmp_path}/a.png`' in sentence(caught(img_util.imwrite, None, str(tmp_path / 'a.png')))


def test_killed_workers():
    error = RuntimeError('DataLoader worker (pid 42) is killed by signal: Bus error. It is possible ...')
    assert 'num_worker_per_gpu' in sentence(error) and '42' in sentence(error)


def test_weights_and_biases():
    error = type('UsageError', (Exception,), {'__module__': 'wandb.errors'})('api_key not configured (no-tty). more')
    assert 'api_key not configured' in sentence(error) and 'wandb login' in sentence(error)


def test_a_patch_that_is_no_multiple_of_the_window(stock_options):
    import torch
    from basicsr.archs import build_network

    network = build_network(stock_options['network_g'])
    text = sentence(caught(network, torch.zeros(1, 3, 12, 16)))
    assert '`gt_size`' in text and 'SwinIR' in text


def test_errors_of_programs_are_not_explained():
    errors = KeyError('x'), ValueError('odd'), AssertionError('odd'), TypeError('f() missing 1 required'), OSError()
    for error in errors:
        assert sentence(error) is None
        assert sentence(caught(_raise, error)) is None
    assert sentence(KeyboardInterrupt()) is None


def _raise(error):
    raise error


def test_stage_names_its_culprit_and_lets_others_pass():
    with pytest.raises(CompSRTError, match=r'The data set `A`: `a\.png`'), stage('The data set `A`'):
        raise OSError(errno.EACCES, 'Permission denied', 'a.png')
    with pytest.raises(CompSRTError, match=r'^mine$'), stage('The data set `A`'):
        raise CompSRTError('mine')
    with pytest.raises(KeyError), stage('The data set `A`'):
        raise KeyError('a')
    with pytest.raises(CompSRTError, match='A: gone'), stage('A', lambda error: 'gone'):
        raise KeyError('a')
