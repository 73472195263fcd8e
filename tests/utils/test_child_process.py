"""A process that is waited for ends with the one that waits."""

import signal
import sys

import pytest

from compsrt_basicsr.utils import child_process

TIDY = """
import signal, sys, time
def end(*_):
    open('tidy', 'w').close()
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
open('ready', 'w').close()
time.sleep(60)
"""


def test_status(tmp_path):
    assert child_process.run([sys.executable, '-c', 'raise SystemExit(3)'], cwd=tmp_path) == 3


def test_an_interrupted_wait_lets_the_process_tidy_up(tmp_path, monkeypatch):
    real = child_process.subprocess.Popen.wait

    def wait(process, timeout=None):
        if timeout is None and not (tmp_path / 'tidy').exists():
            while not (tmp_path / 'ready').exists():
                pass
            raise KeyboardInterrupt
        return real(process, timeout)

    monkeypatch.setattr(child_process.subprocess.Popen, 'wait', wait)
    with pytest.raises(KeyboardInterrupt):
        child_process.run([sys.executable, '-c', TIDY], cwd=tmp_path)
    assert (tmp_path / 'tidy').exists()


def test_a_watched_process_ends_when_its_watch_does(monkeypatch):
    monkeypatch.setattr(child_process, '_LOOK', 0.05)
    looks = iter([True, True, False])
    status = child_process.run([sys.executable, '-c', 'import time; time.sleep(60)'], watch=lambda: next(looks))
    assert status == -signal.SIGTERM and next(looks, None) is None
