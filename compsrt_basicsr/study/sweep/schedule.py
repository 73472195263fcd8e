"""Runs on this machine or on a Slurm cluster, several at a time, through submitit. Failures are kept and reported."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.study.sweep.job import Outcome, SweepJob
from compsrt_basicsr.study.sweep.read_record import is_done, read_record
from compsrt_basicsr.utils import interruption
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.lock import holder, locked
from compsrt_basicsr.utils.log import logger
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory
from compsrt_basicsr.utils.text import counted

FAILED = 'failed.json'
_SLURM = {'job_name': 'compsrt', 'time': 24 * 60}
_YEAR = 365 * 24 * 60  # minutes: no limit on this machine
_POLL, _PATIENCE = 0.5, 10.0  # seconds


def run_jobs(
    jobs: Sequence[SweepJob],
    *,
    at_once: int,
    executor: str = 'local',
    slurm: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[SweepJob]:
    """Runs the jobs that are not finished. Calls at the same time share them; each waits for the runs of the others.

    Args:
        jobs: all jobs of the sweep.
        at_once: how many run at the same time.
        executor: 'local' or 'slurm'.
        slurm: parameters of Slurm jobs, as submitit's SlurmExecutor takes them.
        report: gets a line for each start and end.

    Returns:
        The jobs that failed.

    Raises:
        CompSRTError: if submitit is not installed, or there is no cluster.
        KeyboardInterrupt: at Ctrl-C or SIGTERM. The next call goes on.
    """
    waiting = [job for job in jobs if not is_done(job.record, job.run)]
    if len(waiting) < len(jobs):
        report(f'Finished already: {len(jobs) - len(waiting)} of {counted(len(jobs), "run")}.')
    total, started, failed = len(waiting), 0, []
    running: dict[Any, SweepJob] = {}
    elsewhere: list[SweepJob] = []
    devices = visible_gpus() if executor == 'local' else []
    with interruption.tidying_up(), _terminating_as_interrupting(), _cancelling(running):
        while waiting or running or elsewhere:
            for job in [job for job in elsewhere if not holder(job.lock)]:
                elsewhere.remove(job)
                if is_done(job.record, job.run):
                    report(f'{job.run.label}: {_summary(job)}, by another call')
                else:
                    waiting.append(job)
            while waiting and len(running) < at_once:
                job = replace(waiting.pop(0), gpu=least_used(devices, [job.gpu for job in running.values()]))
                if owner := holder(job.lock):
                    elsewhere.append(job)
                    report(f'{job.run.label}: {owner} runs it; waiting for that')
                    continue
                running[_submit(job, executor, slurm or {})] = job
                started += 1
                report(f'[{started}/{total}] {job.run.label}: started')
            for submitted in [s for s in running if s.done()]:
                job = running.pop(submitted)
                outcome = _outcome(submitted, job)
                if outcome.busy:  # another call was faster
                    elsewhere.append(job)
                    started -= 1
                    continue
                keep_failure(job, outcome)
                if not outcome.done:
                    failed.append(job)
                report(f'{job.run.label}: {_summary(job) if outcome.done else f"FAILED: {outcome.sentence}"}')
            time.sleep(_POLL if running or elsewhere else 0)
    return failed


def keep_failure(job: SweepJob, outcome: Outcome) -> None:
    """Lists a failed run in `failed.json` of the sweep's folder, and removes it from there once the run is done."""
    file = job.out / FAILED
    with locked(job.out / '.failed.lock', f'`{file}`', waiting=logger.info):
        try:
            failures = json.loads(file.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            failures = {}
        failures.pop(job.run.name, None)
        if not outcome.done:
            failures[job.run.name] = {'axes': dict(job.run.axes), 'sentence': outcome.sentence, 'log': outcome.log}
        if failures:
            write_text(file, json.dumps(failures, indent=1) + '\n')
        else:
            file.unlink(missing_ok=True)


def check_slurm(slurm: Mapping[str, Any]) -> None:
    """Checks the section `slurm`.

    Raises:
        CompSRTError: if submitit does not know a parameter. The message names the nearest one.
    """
    known = sorted(_submitit().SlurmExecutor._valid_parameters())
    for name in slurm:
        if name not in known:
            raise CompSRTError(
                f'`slurm.{name}` is no parameter of a Slurm job.{suggestion(name, known)} Known: {", ".join(known)}.'
            )


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError('Sweeps run through submitit: install it with `pip install submitit`.') from error
    return submitit


def _submit(job: SweepJob, executor: str, slurm: Mapping[str, Any]) -> Any:
    submitit = _submitit()
    folder = job.folder / 'submitit'
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if executor == 'slurm':
            cluster = submitit.SlurmExecutor(folder=folder, max_num_timeout=100)
            cluster.update_parameters(**{**_SLURM, 'cpus_per_task': job.threads, **slurm})
        else:
            cluster = submitit.LocalExecutor(folder=folder)
            cluster.update_parameters(timeout_min=_YEAR)
        with _stderr_to(folder / 'controller.txt'):
            return cluster.submit(job)
    except (RuntimeError, ValueError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        lines = str(error).strip().splitlines()
        raise CompSRTError(f'The {executor} executor of submitit refuses: {" ".join(map(str.strip, lines))}') from error


@contextmanager
def _stderr_to(file: Path) -> Iterator[None]:
    """Redirects the stderr of processes started inside; submitit's own would show a traceback at Ctrl-C."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(file, 'ab') as stream:
            os.dup2(stream.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def visible_gpus() -> list[str]:
    """Returns the GPUs that this process may use, as in `CUDA_VISIBLE_DEVICES`."""
    import torch

    count = torch.cuda.device_count()
    given = [name.strip() for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if name.strip()]
    return (given or [str(number) for number in range(count)])[:count]


def least_used(devices: Sequence[str], in_use: Sequence[str]) -> str:
    """Returns the first device with the fewest runs; '' without any devices."""
    return min(devices, key=list(in_use).count, default='')


def _outcome(submitted: Any, job: SweepJob) -> Outcome:
    """Returns how a job ended; a job that has written its record is done."""
    error = submitted.exception()
    if error is None:
        return submitted.result()
    if is_done(job.record, job.run):
        return Outcome(True)
    lines = [line for line in str(error).splitlines() if line.strip() and not set(line.strip()) <= {'-'}]
    traceback = [line for line in lines if not line.startswith((' ', 'You can check', 'or at paths'))]
    return Outcome(False, (traceback or lines)[-1].strip(), str(submitted.paths.stderr))


def _summary(job: SweepJob) -> str:
    record = read_record(job.record)
    means = ', '.join(f'{name} {values["psnr"]:.2f}' for name, values in record['results'].items())
    return f'done in {sum(record["seconds"].values()):.0f} s: {means} dB'


@contextmanager
def _cancelling(running: Mapping[Any, SweepJob]) -> Iterator[None]:
    """Cancels jobs that still run when the call ends early."""
    try:
        yield
    except BaseException:
        for submitted in running:
            submitted.cancel(check=False)
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and not all(submitted.done() for submitted in running):
            time.sleep(_POLL)
        raise


@contextmanager
def _terminating_as_interrupting() -> Iterator[None]:
    """Makes SIGTERM end the call like Ctrl-C, so that no run is left behind; a command has seen to that already.

    Processes started meanwhile react to SIGINT even if they belong to a background job of a shell, which ignores it.
    """

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handlers = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGINT)
        if not interruption.is_handled(number)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
