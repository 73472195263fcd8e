"""A command in a process of its own, which ends with the one that waits for it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

_PATIENCE = 10.0  # seconds in which a process that was asked to end may tidy up


def run(command: Sequence[str], **options: Any) -> int:
    """Runs a command to its end.

    Where the wait is interrupted, the process is asked to end, and killed if it does not. `subprocess.run` kills it at
    once.

    Args:
        command: the program and its arguments.
        options: of `subprocess.Popen`.

    Returns:
        The exit status, negative for a signal.
    """
    with subprocess.Popen(command, **options) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
            process.kill()
            raise
