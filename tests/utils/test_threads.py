"""The number of threads of a command: one for each core that is free, unless the user has given it."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from compsrt_basicsr.utils import threads
from compsrt_basicsr.utils.free_cores import GroupUse, Moment, left_by_limits, moment, used_by_others
from compsrt_basicsr.utils.threads import GIVEN, Threads, threads_for


@pytest.fixture
def two_threads(monkeypatch):
    """A command on two cores whose user has given no number; torch's own comes back afterwards."""
    before = torch.get_num_threads()
    for name in GIVEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, '_SHORTEST', 0.0)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def uses(monkeypatch, *samples):
    """Makes the measurements of the machine these, in their order: (time, idle, own) on two cores."""
    moments = iter([Moment(at, 2, idle, own, None, ()) for at, idle, own in samples])
    monkeypatch.setattr(threads, 'moment', lambda: next(moments))


@pytest.mark.parametrize(
    ('most', 'free', 'expected'), [(2, 2.0, 2), (2, 1.8, 2), (2, 1.6, 1), (2, 0.0, 1), (64, 62.9, 63), (8, 9.0, 8)]
)
def test_a_thread_for_each_free_core(most, free, expected):
    assert threads_for(most, free) == expected


def test_own_work_leaves_a_core_free():
    """Ten seconds on two cores: this process used one, another half of the other."""
    before, after = Moment(0, 2, 100.0, 5.0, None, ()), Moment(10, 2, 105.0, 15.0, None, ())
    assert used_by_others(before, after) == pytest.approx(0.5)
    assert left_by_limits(before, after) == math.inf


def test_a_limit_is_shared_with_other_programs_of_its_group():
    """The group may use three cores of eight; others in it used one of them."""
    before = Moment(0, 8, 0.0, 0.0, None, (GroupUse(3.0, 50.0),))
    after = Moment(10, 8, 60.0, 10.0, None, (GroupUse(3.0, 70.0),))
    assert left_by_limits(before, after) == pytest.approx(2.0)


def test_without_counters_of_the_system_the_load_counts():
    assert used_by_others(*[Moment(at, 8, None, 0.0, 2.5, ()) for at in (0, 1)]) == 2.5
    assert used_by_others(*[Moment(at, 8, None, 0.0, 99.0, ()) for at in (0, 1)]) == 8


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ('files', 'expected'),
    [
        (
            {
                'proc/self/cgroup': '0::/user/own\n',
                'sys/fs/cgroup/user/own/cpu.max': 'max 100000\n',
                'sys/fs/cgroup/user/cpu.max': '150000 100000\n',
                'sys/fs/cgroup/user/cpu.stat': 'usage_usec 2500000\nuser_usec 2000000\n',
            },
            (GroupUse(1.5, 2.5),),
        ),
        (
            {  # the path is that of the host, which a container does not see
                'proc/self/cgroup': '3:cpuset:/\n2:cpu,cpuacct:/docker/5f\n',
                'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '200000\n',
                'sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
                'sys/fs/cgroup/cpuacct/cpuacct.usage': '7000000000\n',
            },
            (GroupUse(2.0, 7.0),),
        ),
        ({'proc/self/cgroup': '1:cpu:/\n', 'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n'}, ()),
        ({}, ()),
    ],
)
def test_limits_of_control_groups(tmp_path, files, expected):
    write(tmp_path, files)
    assert moment(tmp_path).groups == expected


def test_a_system_that_tells_nothing(tmp_path, monkeypatch):
    """Without /proc, the C library finds no load either; a group may have a name in any encoding."""

    def unknown(*_):
        raise OSError('Load averages are unobtainable')

    monkeypatch.setattr(os, 'getloadavg', unknown)
    found = moment(tmp_path)
    assert (found.idle, found.load, found.groups) == (None, None, ())
    write(tmp_path, {'proc/self/cgroup': ''})
    (tmp_path / 'proc/self/cgroup').write_bytes(b'0::/caf\xe9\n')
    write(tmp_path, {'sys/fs/cgroup/cpu.max': '150000 100000\n', 'sys/fs/cgroup/cpu.stat': 'usage_usec 1000000\n'})
    assert moment(tmp_path).groups == (GroupUse(1.5, 1.0),)


@pytest.mark.skipif(not Path('/proc/stat').exists(), reason='needs the counters of Linux')
def test_a_busy_loop_is_seen():
    """On a core that this process shares with it and, perhaps, with others."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        loop = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
        try:
            before = moment()
            time.sleep(0.5)
            used = used_by_others(before, moment())
        finally:
            loop.kill()
            loop.wait()
    finally:
        os.sched_setaffinity(0, cores)
    assert used > 0.8


def test_number_follows_what_others_use(monkeypatch, two_threads):
    own = Threads()
    uses(monkeypatch, (0, 0, 0), (2, 0, 2), (3, 0, 3), (50, 47, 50))
    monkeypatch.setattr(threads.time, 'monotonic', lambda: 60.0)
    own.watch()
    own.choose()  # one core for us, the other one for another program
    assert torch.get_num_threads() == 1
    own.choose_again()
    assert torch.get_num_threads() == 1
    own.choose_again()  # the other program has ended
    assert torch.get_num_threads() == 2


def test_it_is_not_asked_again_at_once(monkeypatch, two_threads):
    own = Threads()
    uses(monkeypatch, (0, 0, 0), (2, 2, 2))
    monkeypatch.setattr(threads.time, 'monotonic', lambda: 3.0)
    own.watch()
    own.choose()
    own.choose_again()
    assert torch.get_num_threads() == 2


def test_numbers_of_the_user_stay(monkeypatch, two_threads):
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    uses(monkeypatch, (0, 0, 0))
    own = Threads()
    own.watch()
    own.choose()
    own.choose_again()
    assert torch.get_num_threads() == 2
    assert own.resume(1) and torch.get_num_threads() == 2


def test_resumed_runs_have_their_number(monkeypatch, two_threads):
    own = Threads()
    uses(monkeypatch, (0, 0, 0), (2, 4, 0))
    own.watch()
    own.choose()
    assert own.resume(None) is None and own.resume(2) is None
    assert 'differ' not in own.resume(1) and torch.get_num_threads() == 1
    assert 'differ' in own.resume(64) and torch.get_num_threads() == 2, 'this machine has two cores'


def test_scripts_have_the_number_that_they_chose(two_threads):
    assert Threads().resume(1) and torch.get_num_threads() == 2
