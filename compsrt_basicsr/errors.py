"""The exception for users, and the nearest known name for its message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CompSRTError(Exception):
    """An error that the user can fix: one sentence that names the culprit and the remedy.

    The commands print the message without a traceback and exit with status 1.
    """


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns ' Did you mean `x`?' for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f' Did you mean `{near[0]}`?' if near else ''
