"""Signals end a command cleanly, wherever it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from compsrt_basicsr.utils import interruption

# Each is the body of a command; it prints `ready`, and the signal comes.
SWALLOWING = """
with contextlib.suppress(BaseException):
    print('ready', flush=True)
    time.sleep(60)
time.sleep(60)
"""
SWALLOWING_EVERYTHING = """
print('ready', flush=True)
while True:
    with contextlib.suppress(BaseException):
        time.sleep(60)
"""
IN_CALLBACKS = """
class Garbage:
    def __del__(self):
        time.sleep(60)
print('ready', flush=True)
Garbage()
time.sleep(60)
"""
IMPORTING = """
class Finder:
    def find_spec(name, path=None, target=None):
        if name == 'slow':
            print('ready', flush=True)
            time.sleep(60)
            print('found', flush=True)
sys.meta_path.insert(0, Finder)
with contextlib.suppress(ImportError):
    import slow
time.sleep(60)
"""
TIDYING = """
try:
    print('ready', flush=True)
    time.sleep(60)
finally:
    os.kill(os.getpid(), signal.SIGTERM)  # another signal meanwhile
    time.sleep(0.3)
    print('tidy', flush=True)
"""
TURNED_INTO_AN_ERROR = """
try:
    print('ready', flush=True)
    time.sleep(60)
except BaseException:
    raise ImportError('numpy')
"""
WITH_WORKERS = """
import multiprocessing
pool = multiprocessing.get_context('fork').Pool(2)
print(*(process.pid for process in pool._pool), flush=True)
with pool:
    pool.map(time.sleep, [60, 60])
"""
FRAME = """
import contextlib, os, signal, sys, time
from compsrt_basicsr.utils import interruption

def command():
{}

interruption.run(command, is_last=True)
"""


def start(body: str) -> subprocess.Popen[str]:
    """Starts a command in a process group of its own; returns when it is ready."""
    indented = '\n'.join(f'    {line}' for line in body.splitlines())
    process = subprocess.Popen(
        [sys.executable, '-c', FRAME.format(indented)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert process.stdout is not None
    process.first = process.stdout.readline()
    assert process.first
    return process


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Waits for the end, and returns exit status and output."""
    output, errors = process.communicate(timeout=20)
    return process.returncode, output, errors


@pytest.mark.parametrize(('number', 'status', 'word'), [(signal.SIGINT, 130, 'Interrupted'),
                                                        (signal.SIGTERM, 143, 'Terminated')])  # fmt: skip
@pytest.mark.parametrize('body', [SWALLOWING, SWALLOWING_EVERYTHING, IN_CALLBACKS, IMPORTING, TURNED_INTO_AN_ERROR])
def test_one_sentence_and_the_status(number, status, word, body):
    process = start(body)
    process.send_signal(number)
    found, output, errors = end(process)
    assert (found, errors) == (status, f'{word}: give the same command again to go on.\n')
    assert 'found' not in output
    assert output.count('ready') <= 1


def test_tidying_up_is_not_disturbed():
    process = start(TIDYING)
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, 'tidy\n', 'Interrupted: give the same command again to go on.\n')


@pytest.mark.parametrize('to_all', [True, False])
def test_workers_end_too(to_all):
    """Ctrl-C reaches the whole group, `kill` only the command."""
    process = start(WITH_WORKERS)
    workers = [int(word) for word in process.first.split()]
    if to_all:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    status, _, errors = end(process)
    assert (status, errors.count('\n')) == (130 if to_all else 143, 1)
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_results_and_errors_pass_unchanged_and_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert interruption.run(lambda: interruption.run(lambda: 7)) == 7
    with pytest.raises(ZeroDivisionError):
        interruption.run(lambda: 1 // 0)
    with pytest.raises(SystemExit) as stop:
        interruption.run(lambda: sys.exit(3))
    assert stop.value.code == 3
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_that_the_caller_ignores_stays_ignored():
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert not interruption.run(lambda: interruption.is_handled(signal.SIGINT))
        assert interruption.run(lambda: interruption.is_handled(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGINT, previous)
