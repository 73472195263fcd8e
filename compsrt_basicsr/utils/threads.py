"""How many threads a command computes with: one for each core that other programs leave free.

A thread that shares its core with another program comes late to the end of every loop, and all others wait for it: on
two cores, of which another program uses one, two threads are slower than one. A number that the user has given stays.
"""

from __future__ import annotations

import math
import os
import time

from compsrt_basicsr.utils.free_cores import Moment, left_by_limits, moment, used_by_others
from compsrt_basicsr.utils.text import counted

GIVEN = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')
_SHORTEST = 0.3  # seconds of a measurement: the system counts in hundredths
_AGAIN = 10.0  # seconds between two choices of one command
_SPARE = 0.25  # of a core that others may use and still leave it free


class Threads:
    """The choice of one command, from the moment when it began."""

    def __init__(self) -> None:
        self._since: Moment | None = None
        self._most: int | None = None
        self._free = 0.0

    def watch(self) -> None:
        """Begins to measure what other programs use."""
        self._since = moment()

    def choose(self) -> None:
        """Sets torch's number of threads, unless the user has; waits until the measurement is long enough."""
        import torch

        if given():
            return
        self._most = self._most or torch.get_num_threads()
        if self._most == 1:
            return
        if self._since is None:
            self.watch()
        assert self._since is not None
        time.sleep(max(0.0, _SHORTEST - (time.monotonic() - self._since.time)))
        self._set()

    def choose_again(self) -> None:
        """Adapts the number to what other programs have used meanwhile, if `choose` was long enough ago."""
        if self._since is None or (self._most or 1) == 1 or self._since.idle is None:
            return
        if time.monotonic() - self._since.time >= _AGAIN:
            self._set()

    def resume(self, number: int | None) -> str | None:
        """Takes the number of an earlier part of a run, on which its last bits may depend.

        It is not taken where the user or a script has chosen one.

        Args:
            number: of threads; None where it is not known.

        Returns:
            A sentence if the run goes on with another number than this command has chosen, or than it had.
        """
        import torch

        before = torch.get_num_threads()
        if number is None or number == before:
            return None
        if self._most is not None:
            torch.set_num_threads(min(number, self._most))
        now = torch.get_num_threads()
        if now == number:
            return f'Resumed with {counted(now, "thread")}, as before.'
        return f'Resumed with {counted(now, "thread")}, {number} before: the last bits may differ.'

    def text(self) -> str:
        """Says how many threads there are, and why not more: 'with 2 threads'."""
        import torch

        number = f'with {counted(torch.get_num_threads(), "thread")}'
        if given() or self._most is None or torch.get_num_threads() == self._most:
            return number
        cores = counted(self._most, 'core')
        return f'{number} ({self._free:.1f} of {cores} are free; {GIVEN[0]}={self._most} takes all)'

    def _set(self) -> None:
        import torch

        assert self._since is not None and self._most is not None
        before, self._since = self._since, moment()
        others, limit = used_by_others(before, self._since), left_by_limits(before, self._since)
        self._free = max(min(self._most - others, limit), 0.0)
        number = threads_for(self._most, self._free)
        if number != torch.get_num_threads():
            torch.set_num_threads(number)


def threads_for(most: int, free: float) -> int:
    """Returns the number of threads that finish soonest.

    Args:
        most: threads that torch would take, one for each core.
        free: cores that other programs leave to this one.
    """
    return max(1, min(most, math.floor(free + _SPARE)))


def given() -> str | None:
    """Returns the variable with which the user has given a number of threads, if there is one."""
    return next((name for name in GIVEN if os.environ.get(name)), None)


THREADS = Threads()
