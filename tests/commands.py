"""Commands of the package, run in forks of a process that has imported it: see command_server.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FORKED = ('compsrt_basicsr', 'compsrt_basicsr.cli.compsrt')  # modules that run in forks


def environment(**changes: str) -> dict[str, str]:
    """Returns the environment of a command; it finds the package."""
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': search, **changes}


class CommandServer:
    """A process that runs commands in forks of itself; it starts with the first one."""

    def __init__(self) -> None:
        self._process: Any = None

    def run(
        self,
        module: str,
        arguments: Sequence[str],
        cwd: Path,
        timeout: float = 240,
        during: Callable[[int], None] | None = None,
        **env: str,
    ) -> subprocess.CompletedProcess[str]:
        """Runs `python -m MODULE ARGUMENTS` in a folder.

        Args:
            module: what has a `__main__`, or the path of a script.
            arguments: those of the command.
            cwd: where it runs.
            timeout: seconds, after which it is killed.
            during: called with the id of its process while it runs.
            env: changes of the environment.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, ROOT / 'tests/command_server.py'],
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        with tempfile.TemporaryDirectory() as folder:
            outputs = [str(Path(folder, stream)) for stream in ('stdout', 'stderr')]
            job = {'module': module, 'arguments': list(arguments), 'cwd': str(cwd), 'outputs': outputs}
            print(json.dumps({**job, 'environment': environment(**env)}), file=self._process.stdin, flush=True)
            pid = int(self._process.stdout.readline())
            late = threading.Timer(timeout, os.kill, (pid, signal.SIGKILL))
            late.start()
            try:
                try:
                    if during is not None:
                        during(pid)
                except BaseException:
                    os.kill(pid, signal.SIGKILL)
                    self._process.stdout.readline()
                    raise
                status = int(self._process.stdout.readline())
            finally:
                late.cancel()
            texts = [Path(path).read_text(errors='replace') if Path(path).exists() else '' for path in outputs]
        return subprocess.CompletedProcess(['python', '-m', module, *arguments], status, *texts)

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait(timeout=60)
