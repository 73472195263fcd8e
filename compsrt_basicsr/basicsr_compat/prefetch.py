"""`PrefetchGenerator`: an error in its thread reaches the training loop, which would wait forever otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def run(original: Callable[[Any], None], thread: Any) -> None:
    """Runs the thread; keeps an error and ends the stream."""
    try:
        original(thread)
    except BaseException as error:
        thread.error = error
        thread.queue.put(None)


def next_item(original: Callable[[Any], Any], thread: Any) -> Any:
    """Returns the next batch, or raises the error that ended the stream.

    Raises:
        StopIteration: At the end of the epoch.
    """
    try:
        return original(thread)
    except StopIteration:
        stopped_by = getattr(thread, 'error', None)
        if stopped_by is not None:
            raise stopped_by from None
        raise
