"""The one progress display: silent by default, a bar on terminals."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

T = TypeVar('T')
BYTES, PIXELS = 'B', 'px'  # units that are counted in thousands


class Bar(Protocol):
    """One piece of work under way."""

    def update(self, n: int = 1) -> object:
        """Reports that `n` more units are done."""


class Progress:
    """Displays how far work has come; this class shows nothing."""

    def start(self, label: str, total: int | None, unit: str, done: int = 0) -> AbstractContextManager[Bar]:
        """Begins a piece of work, which ends with the context.

        Args:
            label: what is done, such as 'upscale'.
            total: units in all, or None where that is unknown.
            unit: what is counted: 'image', `BYTES`, `PIXELS`.
            done: units that were done before, such as the bytes of an interrupted download.
        """
        return _silent()

    def track(self, items: Iterable[T], label: str, unit: str) -> Iterator[T]:
        """Yields the items and counts each one when the next is asked for."""
        with self.start(label, len(items) if isinstance(items, Sized) else None, unit) as bar:
            for item in items:
                yield item
                bar.update()


class TerminalProgress(Progress):
    """Bars on stderr, where that is a terminal."""

    def start(self, label: str, total: int | None, unit: str, done: int = 0) -> AbstractContextManager[Bar]:
        """Begins a piece of work; see `Progress.start`."""
        from tqdm import tqdm

        scaled = unit in (BYTES, PIXELS)
        return tqdm(
            desc=label, total=total, initial=done, unit=unit, unit_scale=scaled, disable=None, dynamic_ncols=True
        )

    def write(self, line: str) -> None:
        """Prints a line on stderr, above the bars."""
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)


class _SilentBar:
    def update(self, n: int = 1) -> None:
        pass


@contextmanager
def _silent() -> Iterator[Bar]:
    yield _SilentBar()


SILENT = Progress()
TERMINAL = TerminalProgress()
