"""Atomic writes: the whole new content or the old one, the usual permissions, and nothing left behind."""

import errno
import os
import stat

import pytest

from compsrt_basicsr.utils.atomic_write import atomic_path, write_bytes, write_text


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes(tmp_path):
    write_text(tmp_path / 'a.txt', 'größe\n')
    write_bytes(str(tmp_path / 'b'), b'\0\r\n')
    assert (tmp_path / 'a.txt').read_bytes() == 'größe\n'.encode()
    assert (tmp_path / 'b').read_bytes() == b'\0\r\n'
    assert files(tmp_path) == ['a.txt', 'b']


def test_an_error_leaves_the_old_content(tmp_path):
    file = tmp_path / 'a.png'
    file.write_bytes(b'old')
    with pytest.raises(KeyboardInterrupt), atomic_path(file) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == '.png' and temporary.name.startswith('.')
        temporary.write_bytes(b'half')
        raise KeyboardInterrupt
    assert file.read_bytes() == b'old' and files(tmp_path) == ['a.png']


def test_writers_that_replace_the_temporary_file_themselves(tmp_path):
    with atomic_path(tmp_path / 'a') as temporary:
        (tmp_path / 'other').write_bytes(b'new')
        os.replace(tmp_path / 'other', temporary)
    assert (tmp_path / 'a').read_bytes() == b'new'


def test_permissions_are_those_of_a_plain_file(tmp_path):
    (tmp_path / 'plain').write_text('')
    write_text(tmp_path / 'atomic', '')
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ('plain', 'atomic')}
    assert len(modes) == 1


@pytest.mark.parametrize('name', ['x' * 255, 'A long title. With a sentence ' + 'y' * 200])
def test_names_as_long_as_the_system_allows(tmp_path, name):
    write_text(tmp_path / name, 'x')
    assert files(tmp_path) == [name]


def test_errors_name_the_file_and_not_the_temporary_one(tmp_path):
    with pytest.raises(FileNotFoundError) as missing:
        write_text(tmp_path / 'absent' / 'a', '')
    assert missing.value.filename == str(tmp_path / 'absent' / 'a')
    (tmp_path / 'folder').mkdir()
    with pytest.raises(IsADirectoryError) as folder:
        write_text(tmp_path / 'folder', '')
    assert str(tmp_path / 'folder') in str(folder.value) and '->' not in str(folder.value)
    assert files(tmp_path) == ['folder']


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError) as error:
        write_text(tmp_path / 'a', 'x')
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(tmp_path / 'a')
    assert files(tmp_path) == []
