"""`~` in paths that users give."""

from __future__ import annotations

import os
from pathlib import Path

from compsrt_basicsr.errors import CompSRTError


def expand_user(path: str | os.PathLike[str], where: str = '') -> Path:
    """Returns a path with `~` and `~USER` replaced by the home folder.

    Args:
        path: the path.
        where: what gives it, such as an environment variable, for the message.

    Raises:
        CompSRTError: if the home folder is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        subject = f'{where}: `{path}`' if where else f'`{path}`'
        raise CompSRTError(
            f'{subject}: the home folder of `{Path(path).parts[0]}` is not known; write it out.'
        ) from error
