"""Runs through submitit: some at once, on this machine or on a Slurm cluster, the failures kept and named."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import filelock

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.study.sweep.job import Job, Outcome
from compsrt_basicsr.study.sweep.record import is_done, read_record
from compsrt_basicsr.utils.atomic_write import write_text

EXECUTORS = ('local', 'slurm')
FAILED = 'failed.json'
_SLURM = {'job_name': 'compsrt', 'time': 24 * 60}
_YEAR = 365 * 24 * 60  # minutes: no limit on this machine
_POLL, _PATIENCE = 0.5, 10.0  # seconds


def run_jobs(
    jobs: Sequence[Job],
    *,
    at_once: int,
    executor: str = 'local',
    slurm: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[Job]:
    """Runs what is not finished.

    Args:
        jobs: all of them.
        at_once: how many run side by side.
        executor: 'local' or 'slurm'.
        slurm: parameters of Slurm jobs, as submitit's SlurmExecutor takes them.
        report: gets a line for each start and end.

    Returns:
        The jobs that failed.

    Raises:
        CompSRTError: submitit or the cluster is not there.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the next call goes on.
    """
    waiting = [job for job in jobs if not is_done(job.record, job.run)]
    if len(waiting) < len(jobs):
        report(f'{len(jobs) - len(waiting)} of {len(jobs)} runs are finished already.')
    total, started, failed = len(waiting), 0, []
    running: dict[Any, Job] = {}
    devices = visible_gpus() if executor == 'local' else []
    with _terminating_as_interrupting(), _cancelling(running):
        while waiting or running:
            while waiting and len(running) < at_once:
                job = replace(waiting.pop(0), gpu=least_used(devices, [job.gpu for job in running.values()]))
                running[_submit(job, executor, slurm or {})] = job
                started += 1
                report(f'[{started}/{total}] {job.run.label}: started')
            for submitted in [s for s in running if s.done()]:
                job = running.pop(submitted)
                outcome = _outcome(submitted, job)
                keep_failure(job, outcome)
                if not outcome.done:
                    failed.append(job)
                report(f'{job.run.label}: {_told(job) if outcome.done else f"FAILED: {outcome.sentence}"}')
            time.sleep(_POLL if running else 0)
    return failed


def keep_failure(job: Job, outcome: Outcome) -> None:
    """Notes a failure in `failed.json` of the grid's folder, and takes the note out once the run is done."""
    file = job.out / FAILED
    with filelock.FileLock(job.out / '.failed.lock'):
        try:
            failures = json.loads(file.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            failures = {}
        failures.pop(job.run.name, None)
        if not outcome.done:
            failures[job.run.name] = {'axes': dict(job.run.axes), **asdict(outcome)}
            del failures[job.run.name]['done']
        if failures:
            write_text(file, json.dumps(failures, indent=1) + '\n')
        else:
            file.unlink(missing_ok=True)


def check_slurm(slurm: Mapping[str, Any]) -> None:
    """Raises CompSRTError, naming the nearest, where submitit does not know a parameter of the section `slurm`."""
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
        raise CompSRTError('Grids run through submitit: install it with `pip install submitit`.') from error
    return submitit


def _submit(job: Job, executor: str, slurm: Mapping[str, Any]) -> Any:
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
        lines = str(error).strip().splitlines()
        raise CompSRTError(f'The {executor} executor of submitit refuses: {" ".join(map(str.strip, lines))}') from error


@contextmanager
def _stderr_to(file: Path) -> Iterator[None]:
    """Processes started inside write their faults into a file: submitit's own would show a traceback at Ctrl-C."""
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
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch

    count = torch.cuda.device_count()
    given = [name.strip() for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if name.strip()]
    return (given or [str(number) for number in range(count)])[:count]


def least_used(devices: Sequence[str], in_use: Sequence[str]) -> str:
    """The device with the fewest runs, the first of several; '' without any."""
    return min(devices, key=list(in_use).count, default='')


def _outcome(submitted: Any, job: Job) -> Outcome:
    """How a job ended, its record having the last word."""
    error = submitted.exception()
    if error is None:
        return submitted.result()
    if is_done(job.record, job.run):
        return Outcome(True)
    lines = [line for line in str(error).splitlines() if line.strip() and not set(line.strip()) <= {'-'}]
    traceback = [line for line in lines if not line.startswith((' ', 'You can check', 'or at paths'))]
    return Outcome(False, (traceback or lines)[-1].strip(), str(submitted.paths.stderr))


def _told(job: Job) -> str:
    record = read_record(job.record)
    means = ', '.join(f'{name} {values["psnr"]:.2f}' for name, values in record['results'].items())
    return f'done in {sum(record["seconds"].values()):.0f} s: {means} dB'


@contextmanager
def _cancelling(running: Mapping[Any, Job]) -> Iterator[None]:
    """Ends what still runs when this call ends early."""
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
    """SIGTERM ends like Ctrl-C, so that no run stays behind.

    Handlers are not inherited, so the processes started meanwhile hear SIGINT even where a shell's background job
    ignores it.
    """

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handlers = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def grid_folder(file: Path, out: Path | None) -> Path:
    """Folder of a grid: `grids/NAME_OF_THE_FILE` unless another is given."""
    return (out or Path('grids') / file.stem).resolve()
