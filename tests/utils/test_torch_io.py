"""Checkpoints are read with clear faults and written whole or not at all."""

import stat

import pytest
import torch

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils import torch_io as checkpoint_io
from compsrt_basicsr.utils.torch_io import atomic_save, read_checkpoint


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / 'net.pth'
    atomic_save({'params': {'w': torch.arange(1000.0)}}, path)
    return path


def test_reads_back_what_was_saved(saved):
    assert torch.equal(read_checkpoint(saved)['params']['w'], torch.arange(1000.0))


def test_saving_replaces_and_leaves_no_temporary_file(saved):
    atomic_save({'iter': 2}, saved)
    assert read_checkpoint(saved) == {'iter': 2}
    assert [path.name for path in saved.parent.iterdir()] == ['net.pth']
    assert stat.S_IMODE(saved.stat().st_mode) & 0o400


def test_missing_file_is_named(tmp_path):
    with pytest.raises(CompSRTError, match=r'absent\.pth` does not exist'):
        read_checkpoint(tmp_path / 'absent.pth')


@pytest.mark.parametrize('keep', [0, 1, 100, 0.5, 0.99])
def test_truncated_file_is_named(saved, keep):
    content = saved.read_bytes()
    saved.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(CompSRTError, match=r'net\.pth` is truncated'):
        read_checkpoint(saved)


def test_other_files_are_refused(tmp_path):
    (tmp_path / 'text.pth').write_text('hello, this is no checkpoint')
    with pytest.raises(CompSRTError, match='not a PyTorch checkpoint'):
        read_checkpoint(tmp_path / 'text.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(CompSRTError, match='holds a list'):
        read_checkpoint(tmp_path / 'list.pth')
    with pytest.raises(CompSRTError, match='cannot be read'):
        read_checkpoint(tmp_path)


def test_pickled_code_is_refused(tmp_path):
    torch.save({'f': print}, tmp_path / 'code.pth')
    with pytest.raises(CompSRTError, match='plain tensors'):
        read_checkpoint(tmp_path / 'code.pth')


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), RuntimeError('unexpected pos 64 vs 0')])
def test_failed_write_keeps_the_old_file(saved, monkeypatch, error):
    before = saved.read_bytes()

    def broken(obj, stream):
        stream.write(b'half')
        raise error

    monkeypatch.setattr(checkpoint_io.torch, 'save', broken)
    with pytest.raises(CompSRTError, match='previous checkpoint is untouched'):
        atomic_save({'iter': 3}, saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ['net.pth']


def test_missing_folder_is_a_clear_fault(tmp_path):
    with pytest.raises(CompSRTError, match='Could not write'):
        atomic_save({}, tmp_path / 'absent' / 'net.pth')
