"""Locks: one holder at a time, gone with a killed process, and a sentence that names who holds them."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from compsrt_basicsr.utils import lock
from compsrt_basicsr.utils.lock import Busy, holder, locked

COUNT = """
import sys
from pathlib import Path
from compsrt_basicsr.utils.lock import locked

lock, counter = map(Path, sys.argv[1:])
for _ in range(60):
    with locked(lock, 'it', waiting=lambda sentence: None):
        counter.write_text(str(int(counter.read_text()) + 1))
"""


@pytest.fixture
def hold():
    """Returns a function that starts a process which holds a lock, and gives it once it does."""
    started = []

    def start(file, *flags):
        command = [sys.executable, Path(__file__).parents[1] / 'lock_holder.py', file, *flags]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        process.printed = [process.stdout.readline().strip()]
        while process.printed[-1] != 'held':
            process.printed.append(process.stdout.readline().strip())
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_and_the_first_named(tmp_path, hold):
    file = tmp_path / 'runs/.one.lock'
    process = hold(file)
    with pytest.raises(Busy, match=rf'`runs/one` .* process {process.pid}:'), locked(file, '`runs/one`'):
        pass
    assert holder(file) == f'process {process.pid}'
    process.communicate('')
    assert list(tmp_path.iterdir()) == [tmp_path / 'runs'] and list((tmp_path / 'runs').iterdir()) == []
    assert holder(file) is None
    with locked(file, 'it'):
        assert holder(file) == f'process {os.getpid()}'


def test_a_killed_holder_blocks_nobody(tmp_path, hold):
    """Even if a child process of it, as a DataLoader's worker, lives on."""
    file = tmp_path / '.lock'
    process = hold(file, 'fork')
    process.kill()
    process.wait()
    assert file.exists() and holder(file) is None
    with locked(file, 'it'):
        assert holder(file) == f'process {os.getpid()}'
    assert not file.exists()
    os.kill(int(process.printed[0]), signal.SIGKILL)


def test_waiting_is_reported_once(tmp_path):
    file, entered, sentences = tmp_path / '.lock', threading.Event(), []

    def second():
        with locked(file, '`folder`', waiting=sentences.append):
            entered.set()

    with locked(file, 'it'):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.5)
    thread.join(10)
    assert entered.is_set()
    assert len(sentences) == 1 and '`folder`' in sentences[0] and f'process {os.getpid()}' in sentences[0]


def test_many_processes_exclude_each_other(tmp_path, monkeypatch):
    """Though each removes the file on which the others wait."""
    (tmp_path / 'counter').write_text('0')
    command = [sys.executable, '-c', COUNT, str(tmp_path / '.lock'), str(tmp_path / 'counter')]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert (tmp_path / 'counter').read_text() == '240'
    assert [path.name for path in tmp_path.iterdir()] == ['counter']


def test_a_failed_block_leaves_no_empty_folder(tmp_path):
    file = tmp_path / 'a/b/.lock'
    with pytest.raises(ZeroDivisionError), locked(file, 'it'):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), locked(file, 'it'):
        (tmp_path / 'a/b/kept').touch()
        raise ZeroDivisionError
    assert list((tmp_path / 'a/b').iterdir()) == [tmp_path / 'a/b/kept']


def test_a_link_is_not_written_through(tmp_path):
    (tmp_path / 'precious').write_text('x')
    (tmp_path / '.lock').symlink_to(tmp_path / 'precious')
    with pytest.raises(OSError) as error, locked(tmp_path / '.lock', 'it'):
        pass
    assert error.value.errno == errno.ELOOP and (tmp_path / 'precious').read_text() == 'x'


@pytest.mark.parametrize('content', [b'', b'12', b'\x1b[2J x\n', b'1 ' + b'x' * 300 + b'\n'])
def test_only_a_signature_is_repeated(tmp_path, content):
    file = tmp_path / '.lock'
    with locked(file, 'it'):
        file.write_bytes(content)
        assert holder(file) == 'another process'
        file.write_bytes(b'12 far-away.example\n')
        assert holder(file) == 'process 12 on far-away.example'


def test_a_disk_that_cannot_lock(tmp_path, monkeypatch, caplog):
    def refuse(descriptor):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock, '_lock', refuse)
    with locked(tmp_path / '.lock', 'it'), locked(tmp_path / '.lock', 'it'):
        assert len(caplog.messages) == 2 and str(tmp_path) in caplog.messages[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == 'nt' or os.geteuid() == 0, reason='permissions do not bind root')
def test_a_folder_that_cannot_be_written_to(tmp_path):
    tmp_path.chmod(0o555)
    begin = time.monotonic()
    with pytest.raises(PermissionError), locked(tmp_path / '.lock', 'it', waiting=print):
        pass
    assert time.monotonic() - begin < 5
    tmp_path.chmod(0o755)
