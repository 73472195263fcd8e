"""A command in a process of its own, which ends with the one that waits for it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

_PATIENCE = 10.0  # seconds in which a process that was asked to end may tidy up
_LOOK = 1.0  # seconds between two looks at a process that is watched


def run(command: Sequence[str], *, watch: Callable[[], bool] | None = None, **options: Any) -> int:
    """Runs a command to its end.

    Where the wait is interrupted, the process is asked to end, and killed if it does not. `subprocess.run` kills it at
    once.

    Args:
        command: the program and its arguments.
        watch: called every second; once it returns False, the process is asked to end.
        options: of `subprocess.Popen`.

    Returns:
        The exit status, negative for a signal.
    """
    with subprocess.Popen(command, **options) as process:
        try:
            while watch is not None:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(_LOOK)
                if not watch():
                    process.terminate()
                    watch = None
            return process.wait()
        except BaseException:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
            process.kill()
            raise
