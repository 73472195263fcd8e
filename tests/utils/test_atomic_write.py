"""Atomic writes: the whole new content or the old one, the usual permissions, and nothing left behind."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compsrt_basicsr.utils import atomic_write
from compsrt_basicsr.utils.atomic_write import (
    atomic_path,
    clear_leftovers,
    copy_file,
    unfinished,
    write_bytes,
    write_text,
)

WRITER = """
import sys
from compsrt_basicsr.utils.atomic_write import atomic_path

with atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b'half')
    print(temporary, flush=True)
    sys.stdin.read()
"""
MANY = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from compsrt_basicsr.utils.atomic_write import atomic_path

os.getpid = lambda: 7  # as in containers


def write(number):
    with atomic_path(f'{sys.argv[1]}/{number % 25}.bin') as temporary:
        data = f'{number % 25} '.encode() * 5000
        with open(temporary, 'wb') as stream:
            for start in range(0, len(data), 1000):
                stream.write(data[start : start + 1000])


with ThreadPoolExecutor(4) as pool:
    list(pool.map(write, range(200)))
"""


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


@pytest.fixture
def writer():
    """Returns a function that starts a process in the middle of a write; gives it and its temporary file."""
    started = []

    def start(file):
        command = [sys.executable, '-c', WRITER, str(file)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path, writer):
    """And neither the file of one that lives, nor what others have named alike."""
    killed, leftover = writer(tmp_path / 'killed.png')
    living, in_use = writer(tmp_path / 'living.png')
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    others = ['.compsrt-notes', '.0123456789abcdef.png', 'compsrt-0123456789abcdef', '.compsrt-0123456789abcde.png']
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / '.compsrt-0123456789abcdef').mkdir()
    os.utime(leftover, (0, 0))
    assert re.fullmatch(r'\.compsrt-[0-9a-f]{16}\.png', leftover.name) and leftover.read_bytes() == b'half'
    write_text(tmp_path / 'a.txt', 'x')
    assert files(tmp_path) == sorted([*others, '.compsrt-0123456789abcdef', in_use.name, 'a.txt'])
    living.communicate('')
    assert (tmp_path / 'living.png').read_bytes() == b'half' and not in_use.exists()


def test_leftovers_that_are_links_or_missing_folders(tmp_path):
    (tmp_path / 'precious').write_text('x')
    (tmp_path / '.compsrt-0123456789abcdef').symlink_to(tmp_path / 'precious')
    clear_leftovers(tmp_path)
    clear_leftovers(tmp_path / 'absent')
    assert files(tmp_path) == ['.compsrt-0123456789abcdef', 'precious']


def test_a_disk_that_cannot_lock_keeps_what_is_young(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_write, 'try_lock', lambda descriptor: None)
    for number in range(2):
        (tmp_path / f'.compsrt-{number:016x}').touch()
    os.utime(tmp_path / f'.compsrt-{0:016x}', (0, 0))
    write_text(tmp_path / 'a', 'x')
    assert files(tmp_path) == [f'.compsrt-{1:016x}', 'a']


def test_writers_while_others_clear(tmp_path):
    """No temporary file is lost to a process that clears at the moment when it is made."""
    end = threading.Event()

    def clear():
        while not end.is_set():
            clear_leftovers(tmp_path)

    threads = [threading.Thread(target=clear) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda number: write_text(tmp_path / str(number), str(number)), range(300)))
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert all((tmp_path / str(number)).read_text() == str(number) for number in range(300))
    assert len(files(tmp_path)) == 300


def test_threads_and_processes_write_to_one_folder(tmp_path):
    """Each file is whole and its own, though all processes have one id."""
    processes = [subprocess.Popen([sys.executable, '-c', MANY, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    for number in range(25):
        assert (tmp_path / f'{number}.bin').read_bytes() == f'{number} '.encode() * 5000
    assert len(files(tmp_path)) == 25


@pytest.mark.parametrize('links', [True, False])
def test_of_two_that_may_not_replace_one_succeeds(tmp_path, monkeypatch, links):
    if not links:

        def refuse(*paths):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, 'link', refuse)
    with pytest.raises(FileExistsError) as error, atomic_path(tmp_path / 'a', replace=False) as late:
        with atomic_path(tmp_path / 'a', replace=False) as early:
            early.write_text('early')
        late.write_text('late')
    assert error.value.filename == str(tmp_path / 'a')
    assert (tmp_path / 'a').read_text() == 'early' and files(tmp_path) == ['a']


def test_a_file_that_the_writer_replaced_is_not_taken_for_a_leftover(tmp_path, monkeypatch):
    """A linker makes its output anew, which loses the lock; the next writer in the folder leaves it alone."""
    with atomic_path(tmp_path / 'a.so') as temporary:
        temporary.unlink()
        temporary.write_bytes(b'library')
        monkeypatch.setattr(atomic_write, '_cleared', set())
        write_text(tmp_path / 'b', 'x')
    assert (tmp_path / 'a.so').read_bytes() == b'library'


def test_a_copy_names_the_target_where_the_disk_is_full(tmp_path, monkeypatch):
    (tmp_path / 'source').write_bytes(b'x')
    copy_file(tmp_path / 'source', tmp_path / 'copy')
    assert (tmp_path / 'copy').read_bytes() == b'x'

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError) as error:
        copy_file(tmp_path / 'source', tmp_path / 'other')
    assert error.value.filename == str(tmp_path / 'other')
    assert unfinished() == []
