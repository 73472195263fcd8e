"""`--force_yml a:b=value`: options changed from the command line, without running them as code."""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableMapping
from functools import cache
from typing import Any

from compsrt_basicsr.config.field_text import expected, sections_of
from compsrt_basicsr.config.renames import current_path
from compsrt_basicsr.errors import CompSRTError, shown, suggestion
from compsrt_basicsr.utils.yaml_reader import SCIENTIFIC, TEXT_KEY, is_moderate, parse_yaml

_INT = re.compile(r'[-+]?[0-9]+')
_FLOAT = re.compile(r'[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)')


def apply_forced(opt: MutableMapping[str, Any], entries: Iterable[str]) -> None:
    """Sets options in place.

    Args:
        opt: The options.
        entries: Texts `key:key:…=value`; all keys but the last must exist.

    Raises:
        CompSRTError: An entry has no `=`, or leads through a section that does not exist.
    """
    for entry in entries:
        path, equals, text = entry.partition('=')
        keys = current_path('.'.join(key.strip() for key in path.split(':'))).split('.')
        if not equals or not all(keys):
            raise CompSRTError(f'--force_yml takes entries such as `train:ema_decay=0.999`, got `{entry}`.')
        section = _section(opt, keys[:-1], entry)
        section[keys[-1]] = parse_value(text, keys[-1])


def parse_value(text: str, key: str = '') -> Any:
    """Turns a command line text into a value: none, bool, int, float, list, mapping or text.

    Args:
        text: What stands after `=`.
        key: The option's name; names, types and paths stay text though they look like numbers.

    Raises:
        CompSRTError: A list or mapping is not valid YAML.
    """
    text = text.strip()
    if _is_none(text, key):
        return None
    if TEXT_KEY.fullmatch(key):
        return _unquote(text)
    if text.startswith(('[', '{', '"', "'")):
        return _numbers(parse_yaml(text, f'--force_yml: the value {shown(text)}', remedy='close its brackets'))
    return _scalar(text, key)


def _is_none(text: str, key: str) -> bool:
    return text == '~' or (text.lower() in ('none', 'null') and not (text == 'none' and key in options_with_none()))


@cache
def options_with_none() -> frozenset[str]:
    """Returns the names of the options that have the choice `none`, where it is a word and no missing value."""
    from compsrt_basicsr.config.run import RunOptions

    return frozenset(
        name
        for model in sections_of(RunOptions)
        for name, info in model.model_fields.items()
        if 'none' in expected(info).choices
    )


def _scalar(text: str, key: str = '') -> Any:
    """Converts one word; what is no number, bool or none stays text."""
    if _is_none(text, key):
        return None
    if text.lower() in ('true', 'false'):
        return text.lower() == 'true'
    if text.startswith('!!float'):
        return _number(text.removeprefix('!!float'), float, text)
    if _INT.fullmatch(text):
        return _number(text, int, text)
    if _FLOAT.fullmatch(text) or SCIENTIFIC.fullmatch(text):
        return _number(text, float, text)
    return text


def _number(digits: str, kind: type[int] | type[float], text: str) -> int | float:
    try:
        number = kind(digits)
    except ValueError as error:
        raise CompSRTError(f'--force_yml: {shown(text)} is no number.') from error
    if not is_moderate(number, digits):
        raise CompSRTError(f'--force_yml: the number {shown(text)} is too large.')
    return number


def _numbers(value: Any) -> Any:
    """Applies `_scalar` to the texts inside lists and mappings, where YAML 1.1 leaves `1e-4` as text."""
    if isinstance(value, list):
        return [_scalar(item) if isinstance(item, str) else _numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _scalar(item, key) if isinstance(item, str) else _numbers(item) for key, item in value.items()}
    return value


def _unquote(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in '\'"'
    return text[1:-1] if quoted else text


def _section(opt: MutableMapping[str, Any], keys: list[str], entry: str) -> MutableMapping[str, Any]:
    """Walks down to the section that holds the last key."""
    for depth, key in enumerate(keys):
        if key not in opt:
            where = ':'.join(keys[:depth]) or 'the options'
            raise CompSRTError(
                f'--force_yml {entry}: there is no section `{key}` in {where}.{suggestion(key, map(str, opt))}'
            )
        opt = opt[key]
        if not isinstance(opt, MutableMapping):
            raise CompSRTError(f'--force_yml {entry}: `{":".join(keys[: depth + 1])}` is a value, not a section.')
    return opt
