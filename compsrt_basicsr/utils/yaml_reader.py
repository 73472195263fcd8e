"""The one reader of YAML: plain data of bounded size, every fault in one sentence with its line.

Option files, sweep files, zoo indexes and catalogs come from others, so nothing in them is trusted: aliases must not
multiply, and what PyYAML itself fails on must not end in a traceback.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from compsrt_basicsr.errors import CompSRTError, first_line, plain

LARGEST_TEXT = 2**22  # characters of a document
LARGEST_VALUE = 2**16  # characters of one scalar
MOST_VALUES = 50_000  # values of a document whose aliases are written out; 100 characters of a scalar count as one
DEEPEST = 48  # sections inside sections
_LARGEST_INTEGER = 2**64

# Floats that PyYAML (YAML 1.1) reads as text: no dot, or an exponent without a sign.
SCIENTIFIC = re.compile(r'[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+')
# `2:4`, in YAML 1.1 the number 124 to base 60.
_SEXAGESIMAL = re.compile(r'[0-9]+(?::[0-9]+)+')
# Under these keys text stays text, whatever number it looks like.
TEXT_KEY = re.compile(
    r'name|type|suffix|model_type|meta_info_file|filename_tmpl|resume_state|project|resume_id|file'
    r'|dataroot_.*|pretrain_network_.*|param_key_.*|prune_pattern'
)
# An escape such as "\0" or "\ud800" can put these into a text; no file can be named or written with them.
_NO_TEXT = re.compile('[\x00\ud800-\udfff]')
_PREFIX = 'tag:yaml.org,2002:'
_KINDS = {
    'null': 'none',
    'bool': 'true or false',
    'int': 'a whole number',
    'float': 'a number',
    'str': 'text',
    'seq': 'a list',
    'map': 'a section',
    'merge': 'a merge',
}
_TEXT = f'{_PREFIX}str'
_MERGE = f'{_PREFIX}merge'
_FLOAT = f'{_PREFIX}float'
_AS_TEXT = (f'{_PREFIX}timestamp', f'{_PREFIX}value')  # `2026-02-30` and `=`


def parse_yaml(text: str, what: str, mapping: type[dict[Any, Any]] = dict, remedy: str = '') -> Any:
    """Reads a document of YAML.

    Dates are text, `1e-4` is a number, doubled keys are refused, and no two places share an object.

    Args:
        text: the document.
        what: names it in the message, such as 'The option file `x.yml`'.
        mapping: type of the sections.
        remedy: ends the message, after a colon.

    Returns:
        None, bools, numbers, texts, lists and mappings; `None` for an empty document.

    Raises:
        CompSRTError: the text is no YAML, is too large or too deep, or holds what is no plain data.
    """
    end = f': {remedy}' if remedy else ''
    if len(text) > LARGEST_TEXT:
        raise CompSRTError(f'{what} has more than {LARGEST_TEXT:,} characters{end}.')
    try:
        loader = _Loader(text)
        try:
            return _unshared(loader.get_single_data(), mapping)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise CompSRTError(f'{what} is not valid YAML: {_describe(error)}{end}.') from error
    except (ValueError, OverflowError) as error:  # PyYAML's scanner, for an escape or a directive out of range
        raise CompSRTError(f'{what} is not valid YAML: {plain(str(error), 200)}{end}.') from error


class _Loader(yaml.SafeLoader):
    """Composes a document within the limits, and constructs plain data only."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._level = self._composed = 0
        self._measures: dict[int, tuple[int, int]] = {}  # values and levels of each finished node, aliases written out

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Composes a node, and adds up what it would hold without aliases."""
        event = self.peek_event()
        self._level += 1
        self._composed += 1
        if self._level > DEEPEST:
            raise _fault('it is nested too deeply', event.start_mark)
        if self._composed > MOST_VALUES:
            raise _fault(f'it has more than {MOST_VALUES:,} values', event.start_mark)
        node = super().compose_node(parent, index)
        self._level -= 1
        if node is not None:
            if isinstance(event, yaml.AliasEvent):
                if id(node) not in self._measures:
                    raise _fault(f'`*{plain(str(event.anchor), 60)}` stands inside itself', event.start_mark)
            else:
                self._measures[id(node)] = self._measure(node)
        return node

    def _measure(self, node: yaml.Node) -> tuple[int, int]:
        if isinstance(node, yaml.ScalarNode):
            if len(node.value) > LARGEST_VALUE:
                raise _fault(f'a value has more than {LARGEST_VALUE:,} characters', node.start_mark)
            return 1 + len(node.value) // 100, 1
        children = [child for pair in node.value for child in (pair if isinstance(pair, tuple) else (pair,))]
        inner = [self._measures[id(child)] for child in children]
        values, levels = 1 + sum(count for count, _ in inner), 1 + max((depth for _, depth in inner), default=0)
        if values > MOST_VALUES:
            raise _fault(f'it has more than {MOST_VALUES:,} values, its aliases written out', node.start_mark)
        if levels > DEEPEST:
            raise _fault('it is nested too deeply', node.start_mark)
        return values, levels

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Constructs plain data; the name of the fault is that of the value, not of PyYAML's function."""
        kind = node.tag.removeprefix(_PREFIX)
        if kind not in _KINDS:
            raise _fault(f'`{plain(node.tag, 60)}` is no kind of value here', node.start_mark)
        try:
            value = super().construct_object(node, deep=True)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
            raise _fault(f'`{plain(str(node.value), 60)}` is not {_KINDS[kind]}', node.start_mark) from error
        if isinstance(value, str) and _NO_TEXT.search(value):
            raise _fault(f'`{plain(value, 60)}` holds a character that no text has', node.start_mark)
        if isinstance(value, (int, float)) and not is_moderate(value, node.value):
            raise _fault(f'the number `{plain(node.value, 60)}` is too large', node.start_mark)
        return value


def is_moderate(number: float, text: str) -> bool:
    """Tells whether a whole number is at most 2^64, and another is infinite only where its text says so."""
    if isinstance(number, int):
        return abs(number) <= _LARGEST_INTEGER
    return not math.isinf(number) or 'inf' in text.lower()


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:
            continue
        key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key_node, yaml.ScalarNode):
            raise _fault('a key must be a plain word', key_node.start_mark)
        if key in seen:
            raise _fault(f'the key `{plain(str(key), 60)}` occurs twice', key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node)
        as_text = _is_text_like_a_number(key, value_node)
        result[key] = value_node.value if as_text else _construct_value(loader, key, value_node)
    return result


def _construct_value(loader: _Loader, key: Any, node: yaml.Node) -> Any:
    """Constructs what stands under a key; the fault of a scalar names the key."""
    try:
        return loader.construct_object(node)
    except yaml.constructor.ConstructorError as error:
        if not isinstance(node, yaml.ScalarNode):
            raise
        raise _fault(f'`{plain(str(key), 60)}`: {error.problem}', error.problem_mark) from error


def _is_text_like_a_number(key: Any, node: yaml.Node) -> bool:
    """Tells whether a plain `1e5` or `2:4` stands under a key whose values are text."""
    if not isinstance(node, yaml.ScalarNode) or node.style is not None or not isinstance(key, str):
        return False
    number = SCIENTIFIC.fullmatch(node.value) or _SEXAGESIMAL.fullmatch(node.value)
    return bool(TEXT_KEY.fullmatch(key) and number)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    if SCIENTIFIC.fullmatch(node.value):
        return float(node.value)
    return loader.construct_yaml_float(node)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _AS_TEXT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor(f'{_PREFIX}map', _construct_mapping)
_Loader.add_constructor(_FLOAT, _construct_float)
_Loader.add_implicit_resolver(_FLOAT, re.compile(f'^(?:{SCIENTIFIC.pattern})$'), list('-+.0123456789'))


def _unshared(value: Any, mapping: type[dict[Any, Any]]) -> Any:
    """Returns a copy in which nothing is shared: what one place changes, no other place sees."""
    if isinstance(value, dict):
        return mapping((key, _unshared(item, mapping)) for key, item in value.items())
    return [_unshared(item, mapping) for item in value] if isinstance(value, list) else value


def _fault(problem: str, mark: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def _describe(error: yaml.YAMLError) -> str:
    """Returns what is wrong and on which line."""
    mark = getattr(error, 'problem_mark', None)
    parts = (getattr(error, 'context', None), getattr(error, 'problem', None) or first_line(error))
    problem = plain(', '.join(part for part in parts if part), 200)
    return f'{problem} (line {mark.line + 1})' if mark is not None else problem
