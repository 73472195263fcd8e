"""Calls of the kernels on several threads: every part once, by threads that stay."""

import threading
import time

import pytest
import torch

from compsrt_basicsr.kernels.loaded import in_threads


@pytest.mark.parametrize(('total', 'least', 'parts'), [(0, 1, 1), (7, 8, 1), (7, 3, 2), (100, 1, 3), (2, 1, 2)])
def test_every_part_is_computed_once(total, least, parts, monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    calls = []
    in_threads(lambda begin, end: calls.append((begin, end)), total, least)
    assert len(calls) == parts
    assert [i for begin, end in sorted(calls) for i in range(begin, end)] == list(range(total))


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
