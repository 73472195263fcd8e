"""The exception for users, text and values that are safe to print, and the nearest known name for a message."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

_LONGEST = 8000  # characters of a message, a list of many errors included
_LONGEST_NAME, _LONGEST_VALUE = 200, 60  # characters of a name that is compared, of a value that is shown
_ITEMS, _DEEPEST = 8, 3  # of a value that is shown
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
    known = [str(k) for k in known] if len(str(name)) <= _LONGEST_NAME else []
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    return f' Did you mean `{near[0]}`?' if near else ''


def shown(value: Any) -> str:
    """Returns a value of any size and depth in one short line that does no harm on a terminal."""
    text = '~' if value is None else f'`{value[:_LONGEST_VALUE]}`' if isinstance(value, str) else _brief(value, 0)
    text = plain(' '.join(text.split('\n')), len(text))
    return text if len(text) <= _LONGEST_VALUE else f'{text[: _LONGEST_VALUE - 3]}...'


def _brief(value: Any, depth: int) -> str:
    """Returns the `repr` of the first items of a value."""
    if isinstance(value, (Mapping, list, tuple)):
        if depth == _DEEPEST:
            return '...'
        if isinstance(value, Mapping):
            pairs = islice(value.items(), _ITEMS)
            return f'{{{", ".join(f"{_brief(k, depth + 1)}: {_brief(v, depth + 1)}" for k, v in pairs)}}}'
        items = ', '.join(_brief(item, depth + 1) for item in islice(value, _ITEMS))
        return f'[{items}]' if isinstance(value, list) else f'({items}{"," * (len(value) == 1)})'
    if isinstance(value, (str, bytes)):
        return repr(value[:_LONGEST_VALUE])
    if (
        isinstance(value, int) and value.bit_length() > 4 * _LONGEST_VALUE
    ):  # Python refuses to write thousands of digits
        return f'a number of {value.bit_length()} bits'
    return repr(value)


def first_line(error: BaseException) -> str:
    """Returns the first line of a foreign error's message, or its type, cut and without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip('.')[:200]
