"""The GPUs of the runs."""

from pathlib import Path

import pytest
import torch
from compsrt_runs import make_teacher
from sweep_records import sweep_of

from compsrt_basicsr.study.sweep import schedule
from compsrt_basicsr.study.sweep.job import Outcome, SweepJob
from compsrt_basicsr.study.sweep.runs import expand


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """Sets the number of GPUs of this machine."""
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    return lambda count: monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)


def test_gpus_are_those_that_are_visible(gpus, monkeypatch):
    gpus(2)
    assert schedule.visible_gpus() == ['0', '1']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3, GPU-5a')
    assert schedule.visible_gpus() == ['3', 'GPU-5a']
    gpus(0)
    assert schedule.visible_gpus() == []


def test_a_run_gets_the_gpu_that_is_free(gpus, monkeypatch, tmp_path: Path):
    """The first run is long; the others use the other GPU one after another."""
    gpus(2)
    monkeypatch.setattr(schedule, '_POLL', 0)
    polls = iter((9, 1, 1, 1))
    given = []

    class Submitted:
        """A run that fails after some polls."""

        def __init__(self, job: SweepJob, *_) -> None:
            given.append(job.gpu)
            self.left = next(polls)

        def done(self) -> bool:
            self.left -= 1
            return self.left < 0

        def exception(self) -> None:
            return None

        def result(self) -> Outcome:
            return Outcome(False, 'ended')

    monkeypatch.setattr(schedule, '_submit', Submitted)
    make_teacher(tmp_path / 'teacher.pth')
    jobs = [SweepJob(run, 'tiny', tmp_path, None, {}, 1) for run in expand(sweep_of(tmp_path))[:4]]
    assert len(schedule.run_jobs(jobs, at_once=2)) == 4
    assert given == ['0', '1', '1', '1']
