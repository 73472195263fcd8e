"""Where fetched files are kept, and whether the network may be used."""

from __future__ import annotations

import os
from pathlib import Path

from compsrt_basicsr.errors import CompSRTError

HOME, OFFLINE = 'COMPSRT_HOME', 'COMPSRT_OFFLINE'
_FALSE, _TRUE = ('', '0', 'false', 'no', 'off'), ('1', 'true', 'yes', 'on')


def home() -> Path:
    """Returns the folder of fetched files: `$COMPSRT_HOME`, or the platform's cache folder."""
    if chosen := os.environ.get(HOME):
        return Path(chosen).expanduser()
    import platformdirs

    return platformdirs.user_cache_path('compsrt')


def offline() -> bool:
    """Returns whether `$COMPSRT_OFFLINE` forbids the network.

    Raises:
        CompSRTError: if the variable is neither a yes nor a no.
    """
    value = os.environ.get(OFFLINE, '').strip().lower()
    if value not in (*_FALSE, *_TRUE):
        raise CompSRTError(f'${OFFLINE} must be 1 or 0, got {value!r}.')
    return value in _TRUE
