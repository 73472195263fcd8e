"""What a field of an option model accepts, in words: for messages and for the documentation."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WORDS: dict[Any, str] = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    str: 'text',
}


def expected(info: FieldInfo) -> tuple[str, list[str]]:
    """Returns what a field accepts, such as 'a whole number from 2 to 8', and the words among which it chooses."""
    return _describe(info.annotation, info.metadata)


def _describe(annotation: Any, metadata: list[Any]) -> tuple[str, list[str]]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        words = [_word(a) for a in arguments]
        return (words[0] if len(words) == 1 else f'one of {", ".join(words)}'), words
    if origin in (Union, UnionType):
        parts = [_describe(a, metadata) for a in arguments if a is not NoneType]
        words = [word for _, choices in parts for word in choices]
        return ' or '.join(dict.fromkeys(text for text, _ in parts)) + (' or ~' if NoneType in arguments else ''), words
    if hasattr(annotation, '__metadata__'):  # Annotated
        return _describe(arguments[0], [*annotation.__metadata__, *metadata])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return 'a section of options', []
    if origin in (list, tuple, set, frozenset) or annotation in (list, tuple):
        return 'a list', []
    if (origin is not None and issubclass(origin, dict)) or annotation is dict:
        return 'a section of options', []
    return _WORDS.get(annotation, 'a value') + _range(metadata), []


def _word(value: Any) -> str:
    return {True: 'true', False: 'false', None: '~'}[value] if isinstance(value, (bool, NoneType)) else str(value)


def _range(metadata: list[Any]) -> str:
    """Returns ' from 2 to 8' and the like; the ends that are not given are left out."""
    ends: dict[str, Any] = {}
    for item in metadata:
        for name in ('ge', 'gt', 'le', 'lt'):
            if (value := getattr(item, name, None)) is not None:
                ends[name] = value
    low = f' from {ends["ge"]}' if 'ge' in ends else f' above {ends["gt"]}' if 'gt' in ends else ''
    high = f' to {ends["le"]}' if 'le' in ends else f' to below {ends["lt"]}' if 'lt' in ends else ''
    if low and not high and 'ge' in ends:
        return f', {ends["ge"]} or more'
    return low + high
