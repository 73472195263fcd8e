"""Disk space: sizes for people, and too little of it."""

import errno
import shutil

import pytest

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.disk_space import free_bytes, is_disk_full, require_space, size_text


@pytest.mark.parametrize(
    ('count', 'text'),
    [(0, '0 bytes'), (999, '999 bytes'), (1500, '1.5 kB'), (20_000, '20 kB'), (3.53e9, '3.5 GB'), (2e12, '2.0 TB')],
)
def test_sizes(count, text):
    assert size_text(count) == text


def test_too_little_space_names_the_work_and_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: shutil._ntuple_diskusage(10_000, 9_000, 1_000))
    assert free_bytes(tmp_path) == 1_000
    require_space(tmp_path, 1_000, 'Copying')
    with pytest.raises(CompSRTError, match=r'^Copying .*1,001 bytes') as error:
        require_space(tmp_path, 1_001, 'Copying')
    assert str(tmp_path) in str(error.value) and '1,000 bytes' in str(error.value)


def test_which_errors_mean_a_full_disk():
    assert is_disk_full(OSError(errno.ENOSPC, '')) and is_disk_full(OSError(errno.EDQUOT, ''))
    assert not is_disk_full(OSError(errno.EACCES, ''))
