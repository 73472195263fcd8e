"""The one exception whose text is written for the user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CompSRTError(Exception):
    """A fault the user can mend: the message names the culprit and the remedy in one sentence.

    The commands print the message without a traceback and exit with status 1.
    """


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns ' Did you mean `x`?' for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f' Did you mean `{near[0]}`?' if near else ''
