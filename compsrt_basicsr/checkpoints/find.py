"""From MODEL, a path or a name of the zoo, to a file: the one place that tells them apart."""

from __future__ import annotations

import os
import re
from pathlib import Path

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub import NAME, SCHEME, WEIGHT_SUFFIXES
from compsrt_basicsr.utils.expand_user import expand_user
from compsrt_basicsr.utils.progress import TERMINAL, Progress


def full_name(model: str | os.PathLike[str]) -> str:
    """Returns `zoo://NAME` for a bare name that is no file; paths as they are.

    A file of the working directory comes before a model of the zoo, a folder does not: results are often put into a
    folder that is called like the model. With a `/`, or an ending such as `.pth`, it is a path.
    """
    text = os.fspath(model)
    if match := re.match('zoo:/+', text):  # `pathlib` makes one slash of two
        return SCHEME + text[match.end() :]
    is_name = NAME.fullmatch(text) and Path(text).suffix.lower() not in WEIGHT_SUFFIXES
    return f'{SCHEME}{text}' if is_name and not Path(text).is_file() else text


def short_name(model: str | os.PathLike[str]) -> str:
    """Returns the name of a model in tables and figures: that of the zoo, or of the file without folder and ending."""
    name = full_name(model)
    return name.removeprefix(SCHEME) if name.startswith(SCHEME) else Path(name).stem


def find_file(model: str | os.PathLike[str], progress: Progress = TERMINAL) -> Path:
    """Finds the file of a model and downloads it if need be. Whether a path exists is left to the reader.

    Args:
        model: a path, a name of the zoo, or `zoo://NAME`.
        progress: display of a download.

    Raises:
        CompSRTError: if no zoo has the name, it is a folder, the download fails, or the file of a zoo is altered.
    """
    name = full_name(model)
    path = expand_user(model if name.startswith(SCHEME) else name)
    if name.startswith(SCHEME):
        from compsrt_basicsr.hub.catalog import find

        try:
            located = find(name)
        except CompSRTError as error:
            if not path.is_dir():
                raise
            raise CompSRTError(f'`{path}` is a folder, and no model of the zoo: give a weight file.') from error
        return located.fetch(progress)
    if path.is_dir():
        raise CompSRTError(f'`{path}` is a folder: give a weight file in it.')
    return path
