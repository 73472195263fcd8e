"""Where fetched files are kept, and whether the network may be used."""

from __future__ import annotations

import os
from pathlib import Path

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.expand_user import expand_user

HOME, OFFLINE = 'COMPSRT_HOME', 'COMPSRT_OFFLINE'
_FALSE, _TRUE = ('', '0', 'false', 'no', 'off'), ('1', 'true', 'yes', 'on')


def home() -> Path:
    """Returns the folder of fetched files: `$COMPSRT_HOME`, or the platform's cache folder.

    Raises:
        CompSRTError: if it depends on a home folder that is not known.
    """
    if chosen := os.environ.get(HOME):
        return expand_user(chosen, f'${HOME}')
    import platformdirs

    found = platformdirs.user_cache_path('compsrt')
    if not found.is_absolute():  # it begins with a `~` that nothing replaces
        raise CompSRTError(f'Your home folder is not known, so there is no place for fetched files: set ${HOME}.')
    return found


def offline() -> bool:
    """Returns whether `$COMPSRT_OFFLINE` forbids the network.

    Raises:
        CompSRTError: if the variable is neither a yes nor a no.
    """
    value = os.environ.get(OFFLINE, '').strip().lower()
    if value not in (*_FALSE, *_TRUE):
        raise CompSRTError(f'${OFFLINE} must be 1 or 0, got {value!r}.')
    return value in _TRUE
