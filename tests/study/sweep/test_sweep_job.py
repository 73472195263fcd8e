"""How runs fail, and how that is recorded."""

import json
import os
from pathlib import Path

import pytest
from sweep_records import sweep_of

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep import job as sweep_job
from compsrt_basicsr.study.sweep.job import Outcome, SweepJob, error_in
from compsrt_basicsr.study.sweep.runs import expand
from compsrt_basicsr.study.sweep.schedule import FAILED, check_slurm, keep_failure
from compsrt_basicsr.utils.lock import locked


@pytest.mark.parametrize(
    ('text', 'status', 'sentence'),
    [
        ('Traceback\nError: no such file.\n', 1, 'no such file.'),
        ('log\nError: 2 faults:\n  - `a`.\n  - `b`.\n', 1, '2 faults: - `a`. - `b`.'),
        ('Traceback (most recent call last):\n  ...\nKeyError: 1\n\n', 1, 'KeyError: 1'),
        ('', 3, '`basicsr train` ended with status 3 and no output.'),
        ('log\n', -9, '`basicsr train` was ended by SIGKILL.'),
    ],
)
def test_error_in_the_output(text, status, sentence):
    assert error_in(text, 'train', status) == sentence


def test_failures_are_kept_until_the_run_is_done(tmp_path: Path):
    jobs = [SweepJob(run, 'tiny', tmp_path, None, {}, 1) for run in expand(sweep_of(tmp_path))[:2]]
    for job in jobs:
        keep_failure(job, Outcome(False, 'it broke.', 'log.txt'))
    kept = json.loads((tmp_path / FAILED).read_text())
    assert kept[jobs[0].run.name] == {'axes': dict(jobs[0].run.axes), 'sentence': 'it broke.', 'log': 'log.txt'}
    keep_failure(jobs[0], Outcome(True))
    assert list(json.loads((tmp_path / FAILED).read_text())) == [jobs[1].run.name]
    keep_failure(jobs[1], Outcome(True))
    assert not (tmp_path / FAILED).exists()


def test_unknown_slurm_parameter():
    check_slurm({'partition': 'gpu', 'time': 60})
    with pytest.raises(CompSRTError, match=r'`slurm.partion`.*Did you mean `partition`'):
        check_slurm({'partion': 'gpu'})


def test_a_run_that_another_process_does_is_not_failed(tmp_path: Path):
    job = SweepJob(expand(sweep_of(tmp_path))[0], 'tiny', tmp_path, None, {}, 1)
    with locked(job.lock, 'it'):
        outcome = job()
    assert (
        outcome.busy and not outcome.done and f'{job.run.name}` is in use by process {os.getpid()}' in outcome.sentence
    )
    assert not job.record.exists()


def test_a_metric_that_is_not_finite_fails_the_run(tmp_path, monkeypatch):
    """A table could not show it."""
    monkeypatch.setattr(sweep_job, 'make_record', lambda *_: {})
    monkeypatch.setattr(sweep_job, 'test_options', lambda *_: {})
    monkeypatch.setattr(sweep_job, 'training_options', lambda *_: {})

    def tested(job, step, *_):
        if step == 'test':
            folder = job.folder / 'results/test'
            folder.mkdir(parents=True)
            (folder / 'metrics.json').write_text('{"Five": {"test": {"psnr": null}}}')

    monkeypatch.setattr(SweepJob, '_command', tested)
    job = SweepJob(expand(sweep_of(tmp_path))[0], 'tiny', tmp_path, None, {}, 1)
    outcome = job()
    assert not outcome.done and '`psnr` of `Five`' in outcome.sentence
    assert not job.record.exists()
