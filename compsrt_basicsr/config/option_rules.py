"""Rules that any section of the options can be held against; each yields its faults as texts."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from compsrt_basicsr.config.option_schema import Schema
from compsrt_basicsr.errors import suggestion

Section = Mapping[str, Any]


def is_number(value: Any) -> bool:
    """Tells whether a value is a finite number, and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any, low: float = -math.inf) -> bool:
    """Tells whether a value is a whole number (`5e5` counts) of at least `low`."""
    return is_number(value) and float(value).is_integer() and value >= low


def _is_int(value: Any, low: int) -> bool:
    return isinstance(value, int) and is_whole(value, low)


def _is_folder_name(value: Any) -> bool:
    return isinstance(value, str) and value.strip() not in ('', '.', '..') and not set(value) & set('/\\\0')


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


# kind -> (test, what the value must be)
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    'any': (lambda v: True, ''),
    'bool': (lambda v: isinstance(v, bool), 'true or false'),
    'text': (lambda v: isinstance(v, str), 'text; put it in quotes'),
    'folder name': (_is_folder_name, 'text that can name a folder'),
    'section': (lambda v: isinstance(v, Mapping), 'a section of options'),
    'list': (_is_list, 'a list'),
    'names': (lambda v: isinstance(v, str) or _is_list(v), 'a name or a list of names'),
    'int': (is_whole, 'a whole number'),
    'count': (lambda v: _is_int(v, 0), 'a whole number, 0 or more'),
    'positive int': (lambda v: _is_int(v, 1), 'a whole number, 1 or more'),
    'iterations': (lambda v: is_whole(v, 1), 'a whole number, 1 or more'),
    'iterations or none': (lambda v: is_whole(v, 0), 'a whole number, 0 or more'),
    'positive number': (lambda v: is_number(v) and v > 0, 'a number above 0'),
    'fraction': (lambda v: is_number(v) and 0 <= v < 1, 'a number from 0 to below 1'),
    'gpu count': (lambda v: v == 'auto' or _is_int(v, 0), '`auto` or a whole number, 0 or more'),
    'io backend': (lambda v: v in ('disk', 'lmdb', 'memcached'), '`disk`, `lmdb` or `memcached`'),
    'prefetch mode': (lambda v: v in ('cpu', 'cuda'), '`cpu`, `cuda` or ~'),
}


def as_section(value: Any) -> Section:
    """Returns a section, or an empty one where something else stands (whose fault is reported elsewhere)."""
    return value if isinstance(value, Mapping) else {}


def join(where: str, key: Any) -> str:
    """Returns the path of a key for the user: `train.optim_g.lr`."""
    return f'{where}.{key}' if where else str(key)


def section_faults(section: Section, schema: Schema, where: str) -> Iterator[str]:
    """Yields unknown keys and values of the wrong kind; a value of ~ counts as not given."""
    for key, value in section.items():
        if key not in schema:
            yield f'`{join(where, key)}` is not an option.{suggestion(key, schema)}'
            continue
        valid, expected = KINDS[schema[key]]
        if value is not None and not valid(value):
            yield f'`{join(where, key)}` must be {expected}, got {_shown(value)}.'


def missing_faults(section: Section, required: Iterable[str], where: str) -> Iterator[str]:
    """Yields required keys that are absent or ~."""
    for key in required:
        if section.get(key) is None:
            yield f'`{join(where, key)}` is missing.'


def choice_faults(name: Any, known: Iterable[str], where: str, what: str) -> Iterator[str]:
    """Yields a fault when a name is not among the known ones; BasicSR also finds `<name>_basicsr`."""
    known = sorted(known)
    if name is None:
        yield f'`{where}` is missing: name {what}.'
    elif not isinstance(name, str) or (name not in known and f'{name}_basicsr' not in known):
        yield f'`{where}`: {_shown(name)} is not {what}.{suggestion(name, known)}'


def registered(registry: Any, name: Any) -> Any | None:
    """Returns what a BasicSR registry holds under a name, without its printing, or None."""
    known = dict(iter(registry))  # `dict(registry)` would index it
    return known.get(name) or known.get(f'{name}_basicsr')


def explicit_parameters(target: Callable[..., Any], given: Iterable[str] = ()) -> dict[str, bool]:
    """Returns the parameters of a callable, and whether each is required.

    Args:
        target: Function or class.
        given: Parameters that BasicSR fills itself.
    """
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in named and name not in given
    }


def argument_faults(
    section: Section, target: Callable[..., Any], where: str, given: Iterable[str] = (), extra: Iterable[str] = ()
) -> Iterator[str]:
    """Yields keys that are no arguments of a callable, and required arguments that are missing.

    Args:
        section: The options; `type` is left out of account.
        target: Function or class that gets them; its `**kwargs` do not count.
        where: Path of the section.
        given: Parameters that BasicSR fills itself.
        extra: Keys that are taken out before the call.
    """
    parameters = explicit_parameters(target, given)
    known = [*parameters, *extra]
    for key in section:
        if key != 'type' and key not in known:
            yield f'`{join(where, key)}` is not an argument of {target.__name__}.{suggestion(key, known)}'
    for name, required in parameters.items():
        if required and name not in section:
            yield f'`{join(where, name)}` is missing: {target.__name__} requires it.'


def _shown(value: Any) -> str:
    """Returns a value in one short line."""
    text = f'`{value}`' if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
