"""Words for messages."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Returns a number with its noun: `1 image`, `1,200 images`.

    Args:
        number: how many.
        noun: the singular, such as 'image'.
        plural: if it is not `noun` with an `s`, such as 'entries'.
    """
    return f'{number:,} {noun if number == 1 else plural or f"{noun}s"}'
