"""From a path or a name of the zoo to a file."""

from __future__ import annotations

import os
from pathlib import Path

from compsrt_basicsr.hub import SCHEME
from compsrt_basicsr.utils.progress import TERMINAL, Progress


def full_name(model: str | os.PathLike[str]) -> str:
    """Returns `zoo://NAME` for a bare name that is no file; paths and other names as they are."""
    text = os.fspath(model)
    is_path = '/' in text or '\\' in text or Path(text).suffix or Path(text).exists()
    return text if is_path else f'{SCHEME}{text}'


def find_file(model: str | os.PathLike[str], progress: Progress = TERMINAL) -> Path:
    """Finds the file of a model and downloads it if need be. Whether a path exists is left to the reader.

    Args:
        model: a path, a name of the zoo, or `zoo://NAME`.
        progress: display of a download.

    Raises:
        CompSRTError: if no zoo has the name, the download fails, or the file of a zoo is altered.
    """
    name = full_name(model)
    if not name.startswith(SCHEME):
        return Path(name).expanduser()
    from compsrt_basicsr.hub.catalog import find

    return find(name).fetch(progress)
