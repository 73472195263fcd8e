"""`PrefetchGenerator`: a fault in its thread reaches the training loop, which would wait for ever otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def run(original: Callable[[Any], None], thread: Any) -> None:
    """Runs the thread; keeps what goes wrong and ends the stream."""
    try:
        original(thread)
    except BaseException as error:
        thread.failure = error
        thread.queue.put(None)


def next_item(original: Callable[[Any], Any], thread: Any) -> Any:
    """Returns the next batch, or raises what ended the stream."""
    try:
        return original(thread)
    except StopIteration:
        failure = getattr(thread, 'failure', None)
        if failure is not None:
            raise failure from None
        raise
