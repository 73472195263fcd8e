"""SIGINT and SIGTERM end a command cleanly: one sentence, exit status 130 or 143.

A signal raises `Interruption` in the main thread, so that files are tidied up on the way out. Python can lose such an
exception: in a callback of the garbage collector, in a library that catches everything. It is therefore raised again
until it is on its way out, and a command that ends in spite of it has the same exit status. While modules are imported
the process is ended at once: C++ code that is initialised there aborts at an exception, and it may take long.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, TypeVar

T = TypeVar('T')
AGAIN = 'give the same command again to go on'
_WORDS = {signal.SIGINT: 'Interrupted', signal.SIGTERM: 'Terminated'}
_ALARM: int | None = getattr(signal, 'SIGALRM', None)  # Windows has none
_REPEAT = 0.05  # seconds
_MOST_RAISED = 20  # times, before a command that swallows every exception is ended as it is
_PATIENCE = 10.0  # seconds for tidying up, in which further signals change nothing


class Interruption(SystemExit):
    """A signal that ends the command.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)  # as shells report it
        self.number = number


def run(command: Callable[[], T], remedy: str = AGAIN, *, is_last: bool = False) -> T:
    """Runs a command, and ends it by a sentence on stderr when a signal comes. A call inside another one is part of it.

    Processes that are forked meanwhile leave SIGINT to this one, which ends them.

    Args:
        command: what to run, in the main thread; in another thread signals are left alone.
        remedy: end of the sentence.
        is_last: the process ends with the command, so that later signals end it silently.

    Returns:
        What the command returns.

    Raises:
        Interruption: a signal came, or a KeyboardInterrupt.
    """
    global _watch
    if _watch is not None:
        _watch.remedy = remedy
        return command()
    _watch = watch = _Watch(remedy)
    number: int | None = None
    try:
        try:
            watch.install()
            result = command()
        finally:
            watch.is_over = True  # from here on a signal is only noted
        number = watch.received
    except BaseException as error:
        number = watch.received or _number_of(error)
        if number is None:
            raise
    finally:
        watch.remove(is_last)
        _watch = None
    if number is not None:
        watch.tell(number)
        raise Interruption(number)
    return result


def is_handled(number: int) -> bool:
    """Returns whether a running command ends cleanly at a signal."""
    return _watch is not None and number in _watch.previous


def leave_alone(number: int) -> None:
    """Gives a signal back its default action until the running command ends."""
    if is_handled(number):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def tidying_up() -> Iterator[None]:
    """Makes sure that an interruption runs the `finally` inside, even while modules are imported."""
    watch, before = _watch, _watch is not None and _watch.must_tidy_up
    if watch is not None:
        watch.must_tidy_up = True
    try:
        yield
    finally:
        if watch is not None:
            watch.must_tidy_up = before


class _Watch:
    """The handlers of a running command.

    Attributes:
        remedy: end of the sentence.
        received: the first signal that came.
        is_over: whether the command has ended.
        previous: the handlers that were replaced.
        must_tidy_up: whether the command has started what does not end by itself.
    """

    def __init__(self, remedy: str) -> None:
        self.remedy = remedy
        self.received: int | None = None
        self.is_over = False
        self.previous: dict[int, Any] = {}
        self.must_tidy_up = False
        self._since = 0.0
        self._raised = 0
        self._hook = sys.unraisablehook

    def tell(self, number: int) -> None:
        with suppress(OSError, ValueError, RuntimeError):  # nobody may be listening, or the stream be in use
            sys.stderr.write(f'{_WORDS[signal.Signals(number)]}: {self.remedy}.\n')
            sys.stderr.flush()

    def install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        _register_fork()
        sys.unraisablehook = self._unraisable
        for number in _WORDS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as in a background job of a shell
                self._replace(number, self._receive)

    def remove(self, is_last: bool) -> None:
        if not self.previous:
            return
        if _ALARM in self.previous:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self.previous.items():
            signal.signal(number, signal.SIG_DFL if is_last and number in _WORDS else handler)
        if not is_last:
            sys.unraisablehook = self._hook

    def _replace(self, number: int, handler: Callable[[int, FrameType | None], None]) -> None:
        self.previous[number] = signal.getsignal(number)
        signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._since = number, time.monotonic()
            self._raise_again_in(_REPEAT)
        self._end(frame, time.monotonic() > self._since + _PATIENCE)

    def _repeat(self, _number: int, frame: FrameType | None) -> None:
        self._end(frame, False)

    def _end(self, frame: FrameType | None, is_late: bool) -> None:
        """Ends the command, unless it has ended or tidies up."""
        if self.received is None or self.is_over or (_is_on_its_way() and not is_late):
            return
        if _is_importing(frame):
            if not self.must_tidy_up:
                self._exit(self.received)
            return
        self._raised += 1
        if self._raised > _MOST_RAISED:
            self._exit(self.received)
        raise Interruption(self.received)

    def _exit(self, number: int) -> NoReturn:
        writer = sys.modules.get('compsrt_basicsr.utils.atomic_write')  # imported here, it might wait for itself
        for file in writer.unfinished() if writer else ():
            with suppress(OSError):
                file.unlink()
        self.tell(number)
        os._exit(128 + number)

    def _unraisable(self, unraisable: Any) -> None:
        """Python drops an exception where none can be raised, and prints it, which is of no use once a signal came."""
        if isinstance(unraisable.exc_value, Interruption):
            self._raise_again_in(0.001)
        elif self.received is None:
            self._hook(unraisable)

    def _raise_again_in(self, seconds: float) -> None:
        if _ALARM is not None and not self.is_over:
            if _ALARM not in self.previous:
                self._replace(_ALARM, self._repeat)
            signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT)


_watch: _Watch | None = None
_is_registered = False


def _register_fork() -> None:
    global _is_registered
    if not _is_registered and hasattr(os, 'register_at_fork'):
        os.register_at_fork(after_in_child=_in_child)
        _is_registered = True


def _in_child() -> None:
    """Makes a forked worker end at SIGTERM, and leave Ctrl-C to the command, which ends its workers."""
    global _watch
    if _watch is not None and threading.current_thread() is threading.main_thread():
        for number in _watch.previous:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
        sys.unraisablehook = _watch._hook
    _watch = None


def _is_on_its_way() -> bool:
    """Returns whether the code that runs now tidies up after an interruption."""
    return _number_of(sys.exc_info()[1]) is not None


def _is_importing(frame: FrameType | None) -> bool:
    """Returns whether the command imports a module now."""
    while frame is not None and frame.f_code is not run.__code__:
        if frame.f_code.co_filename == '<frozen importlib._bootstrap>':
            return True
        frame = frame.f_back
    return False


def _number_of(error: BaseException | None) -> int | None:
    """Returns the signal that an error stands for, or arose from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, Interruption):
            return error.number
        if isinstance(error, KeyboardInterrupt):
            return signal.SIGINT
        error = error.__cause__ or error.__context__
    return None
