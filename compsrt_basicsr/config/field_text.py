"""What a field of an option model accepts, in words: for messages and for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WORDS: dict[Any, str] = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    str: 'text',
}
_ITEMS: dict[Any, str] = {str: ' of texts', int: ' of whole numbers', float: ' of numbers'}


class Accepts(NamedTuple):
    """Metadata of an annotated type: what it accepts, in words that complete 'must be ...'."""

    text: str


class Expected(NamedTuple):
    """What an annotation accepts, and the words among which it chooses."""

    text: str
    choices: list[str]


def expected(info: FieldInfo) -> Expected:
    """Returns what a field accepts, such as 'a whole number from 2 to 8'."""
    return describe(info.annotation, info.metadata)


def describe(annotation: Any, metadata: list[Any]) -> Expected:
    """Returns what an annotation with its metadata accepts."""
    given = next((item.text for item in reversed(metadata) if isinstance(item, Accepts)), None)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, '__metadata__'):  # Annotated
        own = [part for item in annotation.__metadata__ for part in getattr(item, 'metadata', [item])]
        return describe(arguments[0], [*own, *metadata])
    if origin is Literal:
        words = [_word(a) for a in arguments]
        return Expected(given or (words[0] if len(words) == 1 else f'one of {", ".join(words)}'), words)
    if origin in (Union, UnionType):
        parts = [describe(a, metadata if a is not NoneType else []) for a in arguments if a is not NoneType]
        words = [word for _, choices in parts for word in choices]
        text = given or ' or '.join(dict.fromkeys(text for text, _ in parts))
        return Expected(text + (', or ~' if NoneType in arguments else ''), words)
    return Expected(given or _plain(annotation, origin, metadata), [])


def members(annotation: Any) -> Iterator[Any]:
    """Yields the types that an annotation is made of, without None: those of a union, or itself."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, '__metadata__'):
        yield from members(arguments[0])
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from members(argument)
    elif annotation is not NoneType:
        yield annotation


def is_section(annotation: Any) -> bool:
    """Tells whether a type is a model of options."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def is_mapping(annotation: Any) -> bool:
    """Tells whether a type maps names to values."""
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Mapping)


def is_list(annotation: Any) -> bool:
    """Tells whether a type is a list of values."""
    return (get_origin(annotation) or annotation) in (list, tuple, set, frozenset)


def sections_of(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yields a model and, each once, the models of the sections inside it."""
    found: dict[type[BaseModel], None] = {}
    waiting = [model]
    while waiting:
        section = waiting.pop(0)
        if section not in found:
            found[section] = None
            waiting += [s for info in section.model_fields.values() for s in _sections_in(info.annotation)]
    yield from found


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    for candidate in members(annotation):
        if is_section(candidate):
            yield candidate
        else:
            for argument in get_args(candidate):
                yield from _sections_in(argument)


def _plain(annotation: Any, origin: Any, metadata: list[Any]) -> str:
    if is_section(annotation) or is_mapping(annotation):
        return 'a section of options'
    if is_list(annotation):
        item = next((kind for a in get_args(annotation)[:1] for kind in members(a)), None)
        of = _ITEMS.get(item, '')
        return f'a list{of}{_length(metadata)}'
    return _WORDS.get(annotation, 'a value') + _range(metadata)


def _word(value: Any) -> str:
    return (
        {True: 'true', False: 'false', None: '~'}[value] if isinstance(value, (bool, NoneType)) else str(value) or "''"
    )


def _length(metadata: list[Any]) -> str:
    least = next((item.min_length for item in metadata if getattr(item, 'min_length', None)), None)
    return f', {least} or more' if least else ''


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
