"""The GPUs of the runs."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from compsrt_runs import make_teacher
from sweep_records import sweep_of

from compsrt_basicsr.study.sweep import schedule
from compsrt_basicsr.study.sweep.job import Outcome, SweepJob
from compsrt_basicsr.study.sweep.runs import expand
from compsrt_basicsr.utils.lock import locked


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """Sets the number of GPUs of this machine."""
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    return lambda count: monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)


def jobs_of(folder: Path, count: int) -> list[SweepJob]:
    make_teacher(folder / 'teacher.pth')
    return [SweepJob(run, 'tiny', folder, None, {}, 1) for run in expand(sweep_of(folder))[:count]]


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
    jobs = jobs_of(tmp_path, 4)
    assert len(schedule.run_jobs(jobs, at_once=2)) == 4
    assert given == ['0', '1', '1', '1']


class Ended:
    """A submitted run that has ended.

    Args:
        outcome: how.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def done(self) -> bool:
        return True

    def exception(self) -> None:
        return None

    def result(self) -> Outcome:
        return self.outcome


def test_runs_of_another_call_are_waited_for(monkeypatch, tmp_path: Path):
    """One is held from the start and finished elsewhere, one is held and given up; neither counts as failed."""
    monkeypatch.setattr(schedule, '_POLL', 0.01)
    monkeypatch.setattr(schedule, '_summary', lambda job: 'done')
    finished, given_up, free = jobs_of(tmp_path, 3)
    stack, submitted, lines = ExitStack(), [], []
    for job in (finished, given_up):
        stack.enter_context(locked(job.lock, 'it'))
    done = set()
    monkeypatch.setattr(schedule, 'is_done', lambda record, run: record in done)

    def submit(job: SweepJob, *_) -> Ended:
        submitted.append(job.run.name)
        done.add(job.record)
        if job.run == free.run:  # the others are held until now
            done.add(finished.record)
            stack.close()
        return Ended(Outcome(True))

    monkeypatch.setattr(schedule, '_submit', submit)
    assert schedule.run_jobs([finished, given_up, free], at_once=1, report=lines.append) == []
    assert submitted == [free.run.name, given_up.run.name]
    assert sum(f'process {os.getpid()} runs it' in line for line in lines) == 2
    assert not (tmp_path / schedule.FAILED).exists()


def test_a_run_that_another_call_began_first_is_no_failure(monkeypatch, tmp_path: Path):
    """Between the look at its lock and its start."""
    monkeypatch.setattr(schedule, '_POLL', 0)
    monkeypatch.setattr(schedule, '_summary', lambda job: 'done')
    (job,) = jobs_of(tmp_path, 1)
    outcomes = iter((Outcome(False, 'in use', busy=True), Outcome(True)))
    monkeypatch.setattr(schedule, '_submit', lambda *_: Ended(next(outcomes)))
    lines = []
    assert schedule.run_jobs([job], at_once=1, report=lines.append) == []
    assert [line.split()[0] for line in lines if 'started' in line] == ['[1/1]', '[1/1]']
    assert not (tmp_path / schedule.FAILED).exists()
