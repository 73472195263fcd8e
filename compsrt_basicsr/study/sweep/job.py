"""One run in a process of its own: train, test, record. Each step goes on where it was interrupted."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.publish import read_quality
from compsrt_basicsr.kernels.loaded import kernels
from compsrt_basicsr.study.sweep.data import LmdbPair
from compsrt_basicsr.study.sweep.make_record import make_record
from compsrt_basicsr.study.sweep.option_files import (
    TESTED,
    TRAINED,
    WEIGHTS,
    execution_of,
    test_options,
    training_options,
)
from compsrt_basicsr.study.sweep.read_record import is_done
from compsrt_basicsr.study.sweep.runs import Run
from compsrt_basicsr.utils import child_process
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.lock import Busy, locked
from compsrt_basicsr.utils.plain_json import json_text

_THREADS = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS')


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        done: whether its record is written.
        sentence: the error, if there was one.
        log: the file with the output of the commands.
        busy: whether another call runs it, so that it has not ended at all.
    """

    done: bool
    sentence: str = ''
    log: str = ''
    busy: bool = False


class StepFailed(Exception):
    """A command of the run ended with an error."""


@dataclass(frozen=True)
class SweepJob:
    """A run and what it needs. submitit pickles and calls it. All paths are absolute.

    Attributes:
        run: the run.
        sweep: name of the sweep.
        out: folder of the sweep.
        data: the training set, if the sweep has one.
        tests: the test sets by name.
        threads: CPU threads.
        gpu: the GPU it may use, as in `CUDA_VISIBLE_DEVICES`; '' leaves the choice to whatever starts it.
    """

    run: Run
    sweep: str
    out: Path
    data: LmdbPair | None
    tests: Mapping[str, LmdbPair]
    threads: int
    gpu: str = ''

    @property
    def folder(self) -> Path:
        """Working folder of the run."""
        return self.out / 'work' / self.run.name

    @property
    def record(self) -> Path:
        """File that is written when the run is finished."""
        return self.out / 'runs' / f'{self.run.name}.json'

    @property
    def lock(self) -> Path:
        """File that is locked while a process does the run."""
        return self.folder / '.lock'

    @property
    def log(self) -> Path:
        """Output of the commands."""
        return self.folder / 'log.txt'

    def __call__(self) -> Outcome:
        """Does what is left of the run."""
        if self.gpu:
            os.environ['CUDA_VISIBLE_DEVICES'] = self.gpu  # inherited by the commands of the run
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
        try:
            with locked(self.lock, f'`{self.folder}`'):
                return self._finish()
        except Busy as error:
            return Outcome(False, str(error), str(self.log), busy=True)

    def checkpoint(self, *arguments: Any) -> Any:
        """Returns what submitit starts after a preemption or a timeout: the same job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)

    def _finish(self) -> Outcome:
        if is_done(self.record, self.run):
            return Outcome(True)
        try:
            record = self._train_and_test()
        except StepFailed as error:
            return Outcome(False, str(error), str(self.log))
        self.record.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.record, json_text(record, indent=1))
        self._tidy()
        return Outcome(True)

    def _train_and_test(self) -> dict[str, Any]:
        execution = execution_of(self.run, kernels() is not None) if self.run.trains else 'fake'
        if self.run.trains:
            self._write('train.yml', training_options(self.run, self.data))
            if not (self.folder / WEIGHTS).exists():  # written at the end of a training, and not before
                self._command('train', '--auto_resume')
        self._write('test.yml', test_options(self.run, self.tests, execution))
        shutil.rmtree(self.folder / 'results', ignore_errors=True)
        self._command('test')
        record = make_record(self.run, self.sweep, self.folder, self.data, self.tests)
        try:
            read_quality(self.folder / 'results' / TESTED / 'metrics.json')
        except CompSRTError as error:
            raise StepFailed(str(error)) from error
        return {
            **record,
            'execution': execution,
            'seconds': self._seconds(),
            'threads': self.threads,
        }

    def _write(self, name: str, options: Mapping[str, Any]) -> None:
        plain = json.loads(json.dumps(options))
        write_text(self.folder / name, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))

    def _command(self, step: str, *flags: str) -> None:
        """Runs `basicsr train` or `basicsr test`. The output goes to the log, the time to `seconds.jsonl`."""
        start = time.monotonic()
        environment = {**os.environ, **dict.fromkeys(_THREADS, str(self.threads))}
        command = [sys.executable, '-m', 'compsrt_basicsr', step, '-opt', f'{step}.yml', *flags]
        with open(self.log, 'ab') as log:
            begin = log.tell()
            try:
                status = child_process.run(
                    command, cwd=self.folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )
            finally:
                with open(self.folder / 'seconds.jsonl', 'a') as times:
                    times.write(json.dumps({'step': step, 'seconds': round(time.monotonic() - start, 1)}) + '\n')
        if status:
            with open(self.log, 'rb') as log:
                log.seek(begin)
                raise StepFailed(error_in(log.read().decode(errors='replace'), step, status))

    def _seconds(self) -> dict[str, float]:
        """Returns the time of each step over all sessions."""
        total: dict[str, float] = {}
        for line in (self.folder / 'seconds.jsonl').read_text().splitlines():
            entry = json.loads(line)
            total[entry['step']] = round(total.get(entry['step'], 0) + entry['seconds'], 1)
        return total

    def _tidy(self) -> None:
        """Deletes all but the calibrated and the last network, options and log."""
        experiment = self.folder / 'experiments' / TRAINED
        shutil.rmtree(experiment / 'training_states', ignore_errors=True)
        for file in (experiment / 'models').glob('net_g_*.pth'):
            if re.fullmatch(r'net_g_\d+', file.stem):
                file.unlink(missing_ok=True)
        for archived in self.folder.glob(f'experiments/{TRAINED}_archived_*'):
            shutil.rmtree(archived, ignore_errors=True)


def error_in(text: str, step: str, status: int) -> str:
    """Returns the error with which a command ended, from its output.

    Args:
        text: the output.
        step: 'train' or 'test'.
        status: the exit status, negative for a signal.
    """
    if status < 0:
        return f'`basicsr {step}` was ended by {signal.Signals(-status).name}.'
    _, found, sentence = f'\n{text}'.rpartition('\nError: ')
    if found:
        return ' '.join(line.strip() for line in sentence.strip().splitlines())
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f'`basicsr {step}` ended with status {status} and no output.'
