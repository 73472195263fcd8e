"""Calls of the kernels on several threads: every part once, by threads that stay."""

import os
import threading
import time

import pytest
import torch

from compsrt_basicsr.kernels import loaded
from compsrt_basicsr.kernels.loaded import in_threads


@pytest.mark.parametrize(('total', 'least', 'parts'), [(0, 1, 1), (7, 8, 1), (7, 3, 3), (100, 1, 13), (2, 1, 2)])
def test_every_part_is_computed_once(total, least, parts, monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    calls = []
    in_threads(lambda begin, end: calls.append((begin, end)), total, least)
    assert len(calls) == parts
    assert [i for begin, end in sorted(calls) for i in range(begin, end)] == list(range(total))
    assert all(begin % least == 0 for begin, _ in calls)


def test_nobody_waits_for_a_thread_that_comes_late(monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    released, calls = threading.Event(), []
    pool = loaded._pool(os.getpid(), 2)
    for _ in range(2):
        pool.submit(released.wait)
    try:
        in_threads(lambda begin, end: calls.append(threading.current_thread()), 64, 1)
    finally:
        released.set()
    assert len(calls) == 8 and set(calls) == {threading.current_thread()}


@pytest.mark.parametrize('failing', ['this', 'another'])
def test_a_failure_arrives_when_no_thread_works_any_more(failing, monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    this, both, working = threading.current_thread(), threading.Barrier(2), []

    def run(begin, end):
        if begin < 4:
            both.wait(10)  # each thread has one of the first two parts
        working.append(begin)
        time.sleep(0.01)
        working.remove(begin)
        if (threading.current_thread() is this) == (failing == 'this'):
            raise RuntimeError('failed')

    with pytest.raises(RuntimeError, match='failed'):
        in_threads(run, 16, 2)
    assert not working


def test_calls_of_any_size_share_their_threads(monkeypatch):
    """Starting threads takes longer than many a call."""
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    seen = set()

    def run(begin, end):
        seen.add(threading.current_thread())
        time.sleep(0.01)  # no thread takes two parts

    for total in (2, 3, 2, 3):
        in_threads(run, total, 1)
    assert len(seen) <= 3
