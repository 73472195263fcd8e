"""The exception for users, text that is safe to print, and the nearest known name for a message."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_LONGEST = 8000  # characters of a message, a list of many errors included
# What a terminal obeys instead of showing it, what turns text around, and halves of characters that cannot be encoded.
_UNSAFE = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')


class CompSRTError(Exception):
    """An error that the user can fix: one sentence that names the culprit and the remedy.

    The commands print the message without a traceback and exit with status 1. What it quotes from files and servers
    does no harm on a terminal.
    """

    def __str__(self) -> str:
        return plain(super().__str__(), _LONGEST)


def plain(text: str, longest: int) -> str:
    """Returns text of a foreign origin that does no harm on a terminal.

    Args:
        text: any text.
        longest: characters to keep; the middle of a longer text gives way to an ellipsis.

    Returns:
        The text with control characters and the like, but for tabs and line ends, as escapes such as `\\x1b`.
    """
    if len(text) > longest:
        tail = longest // 4
        text = f'{text[: longest - tail - 1]}…{text[-tail:]}'
    return _UNSAFE.sub(lambda match: ascii(match[0])[1:-1], text)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns ' Did you mean `x`?' for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f' Did you mean `{near[0]}`?' if near else ''
