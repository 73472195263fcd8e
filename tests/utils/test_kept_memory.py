"""Freed memory stays with the commands for the next tensor, unless the user has said otherwise."""

import os
import subprocess
import sys

import pytest
from commands import ROOT

from compsrt_basicsr.utils import process_memory

LARGE_PAGES = 32  # of 2 MB, of a tensor of 64 MB; where the system has none, it clears more
CODE = """
from compsrt_basicsr.cli import start
import resource, torch

torch.set_num_threads(1)
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='GNU C library')


def faults(**settings):
    """Returns how often the system has cleared memory for four tensors of 64 MB, one after the other."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(('MALLOC_', 'GLIBC_', 'THP_'))}
    environment = {**clean, 'PYTHONPATH': str(ROOT), **settings}
    done = subprocess.run([sys.executable, '-c', CODE], env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_the_next_tensor_takes_the_memory_of_the_last():
    assert faults() < LARGE_PAGES


def test_settings_of_the_user_win():
    assert faults(MALLOC_MMAP_THRESHOLD_='131072') >= 4 * LARGE_PAGES


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, 'platform', 'darwin')
    monkeypatch.delenv('THP_MEM_ALLOC_ENABLE', raising=False)
    monkeypatch.setattr(process_memory.ctypes, 'CDLL', None)
    process_memory.keep()
    process_memory.give_back()
    assert os.environ.pop('THP_MEM_ALLOC_ENABLE') == '1'
