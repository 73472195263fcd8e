"""Runs the demo's commands as subprocesses, with a log, status lines and a progress bar."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from tqdm import tqdm

MODULES = {'basicsr': 'compsrt_basicsr', 'compsrt': 'compsrt_basicsr.cli.compsrt'}
_ITERATION = re.compile(r'\biter:\s*([\d,]+\d|\d)')
_LINES_ON_ERROR = 15  # lines of output shown when a command fails


class CommandFailedError(Exception):
    """A failed step of the demo; the message is for the user."""


class Commands:
    """Runs commands one after the other in the demo's folder.

    Args:
        folder: working directory of the commands, and the folder of the log.
        steps: total number of commands.
    """

    LOG = 'commands.log'

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder, self.steps, self.step = folder, steps, 0
        self.log = folder / self.LOG
        self.log.touch()
        self._started = time.monotonic()

    def elapsed(self) -> float:
        """Returns the seconds since the start."""
        return time.monotonic() - self._started

    def run(self, title: str, command: list[str], iterations: int = 0) -> None:
        """Runs one command and waits for it.

        Args:
            title: description of the step.
            command: the command line; the first word is a key of `MODULES`.
            iterations: training iterations for the progress bar.

        Raises:
            CommandFailedError: if the exit status is not 0.
        """
        self.step += 1
        started = time.monotonic()
        print(f'[{self.step}/{self.steps}] {title}', flush=True)
        lines: deque[str] = deque(maxlen=_LINES_ON_ERROR)
        with self.log.open('a', encoding='utf-8', buffering=1) as log:
            log.write(f'$ {shlex.join(command)}\n')
            with (
                subprocess.Popen(
                    [sys.executable, '-m', MODULES[command[0]], *command[1:]],
                    cwd=self.folder,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    encoding='utf-8',
                    errors='replace',
                ) as process,
                tqdm(total=iterations, unit='iteration', leave=False, disable=None if iterations else True) as bar,
            ):
                for line in process.stdout:
                    log.write(line)
                    lines.append(line)
                    if match := _ITERATION.search(line):
                        bar.update(int(match[1].replace(',', '')) - bar.n)
            log.write('\n')
        if process.returncode:
            raise CommandFailedError(f'step {self.step} failed; the end of {self.log}:\n\n{"".join(lines).rstrip()}')
        print(f'      {clock(time.monotonic() - started)} (total {clock(self.elapsed())})', flush=True)


def clock(seconds: float) -> str:
    """Formats seconds as `1:05`."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'
