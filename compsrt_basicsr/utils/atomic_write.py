"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Gives the name to write a file under; once the context ends without a fault, the file has its own name.

    Raises:
        OSError: it could not be renamed; after any fault what stood there is untouched.
    """
    partial = file.with_name(f'.{file.name}.{os.getpid()}.partial')
    try:
        yield partial
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def replace_text(file: Path, text: str) -> None:
    """Writes a file in UTF-8 so that its name holds either the old text or the whole new one.

    Raises:
        OSError: it could not be written; what stood there is untouched.
    """
    with replacing(file) as partial:
        partial.write_text(text, encoding='utf-8')
