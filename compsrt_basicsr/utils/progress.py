"""A progress bar of bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from tqdm import tqdm


@contextlib.contextmanager
def byte_bar(what: str, total: int | None, start: int) -> Iterator[Callable[[int], None]]:
    """Shows the bytes of a download on stderr where that is a terminal; a `ByteProgress`."""
    with tqdm(
        desc=what, total=total, initial=start, unit='B', unit_scale=True, disable=None, dynamic_ncols=True
    ) as bar:
        yield bar.update
