"""Text files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path


def replace_text(file: Path, text: str) -> None:
    """Writes a file in UTF-8 so that its name holds either the old text or the whole new one.

    Raises:
        OSError: it could not be written; what stood there is untouched.
    """
    partial = file.with_name(f'.{file.name}.{os.getpid()}.partial')
    try:
        partial.write_text(text, encoding='utf-8')
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
