"""JSON from files that anybody may have made."""

from __future__ import annotations

import json
from typing import Any, NoReturn

_DIGITS = 20  # of a whole number of 64 bits; Python's own have no limit, and most of their users have


def parse_json(text: str | bytes) -> Any:
    """Parses JSON whose numbers are finite, whose whole numbers have at most 20 digits, and whose texts are Unicode.

    Args:
        text: JSON; bytes are UTF-8.

    Raises:
        ValueError: if it is anything else, such as `NaN`, or a text with half of a surrogate pair, which no terminal
            and no file can show.
    """
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        value = json.loads(decoded, parse_int=_whole, parse_constant=_constant)
        if not isinstance(text, bytes) or '\\ud' in decoded.lower():  # elsewhere there cannot be one
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError('It is nested too deeply.') from error
    return value


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f'A whole number has {len(digits)} digits.')
    return int(digits)


def _constant(name: str) -> NoReturn:
    raise ValueError(f'{name} is no number.')
