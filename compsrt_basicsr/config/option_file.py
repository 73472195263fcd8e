"""Option files: YAML with its traps closed, and the copy kept beside an experiment."""

from __future__ import annotations

import os
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import yaml

from compsrt_basicsr.errors import CompSRTError

# Floats that PyYAML (YAML 1.1) reads as text: no dot, or an exponent without a sign.
SCIENTIFIC = re.compile(r'[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+')
# `2:4`, in YAML 1.1 the number 124 to base 60.
_SEXAGESIMAL = re.compile(r'[0-9]+(?::[0-9]+)+')
# Under these keys text stays text, whatever number it looks like.
TEXT_KEY = re.compile(
    r'name|type|suffix|model_type|meta_info_file|filename_tmpl|resume_state|project|resume_id|file'
    r'|dataroot_.*|pretrain_network_.*|param_key_.*|prune_pattern'
)
_MERGE = 'tag:yaml.org,2002:merge'
_FLOAT = 'tag:yaml.org,2002:float'


class OptionPath(str):
    """Path of an option file that remembers the bytes read from it: BasicSR may move the file before it copies it.

    Attributes:
        content: The file as it was when the options were read.
    """

    content: bytes

    def __new__(cls, path: str, content: bytes) -> OptionPath:
        self = super().__new__(cls, path)
        self.content = content
        return self


class _Loader(yaml.SafeLoader):
    """Safe loader: mappings in order, doubled keys refused, `1e-4` a number."""


def _is_text_like_a_number(key: Any, node: yaml.Node) -> bool:
    """Tells whether a plain `1e5` or `2:4` stands under a key whose values are text."""
    if not isinstance(node, yaml.ScalarNode) or node.style is not None or not isinstance(key, str):
        return False
    number = SCIENTIFIC.fullmatch(node.value) or _SEXAGESIMAL.fullmatch(node.value)
    return bool(TEXT_KEY.fullmatch(key) and number)


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> OrderedDict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, (str, int, float, bool, type(None))):
            raise yaml.constructor.ConstructorError(None, None, 'a key must be a plain word', key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f'the key `{key}` occurs twice', key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    result = OrderedDict()
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if _is_text_like_a_number(key, value_node):
            result[key] = value_node.value
        else:
            result[key] = loader.construct_object(value_node, deep=True)
    return result


def _construct_scientific(loader: _Loader, node: yaml.ScalarNode) -> float:
    if SCIENTIFIC.fullmatch(node.value):
        return float(node.value)
    return loader.construct_yaml_float(node)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
_Loader.add_constructor(_FLOAT, _construct_scientific)
_Loader.add_implicit_resolver(_FLOAT, re.compile(f'^(?:{SCIENTIFIC.pattern})$'), list('-+.0123456789'))


def read_option_file(path: str) -> tuple[OrderedDict[str, Any], OptionPath]:
    """Reads the options of a YAML file.

    Args:
        path: The file given by `-opt`.

    Returns:
        The options, and the path with the bytes they were read from.

    Raises:
        CompSRTError: The file is missing or no YAML mapping, or a key occurs twice; with the line.
    """
    try:
        with open(os.path.expanduser(path), 'rb') as stream:
            content = stream.read()
        opt = yaml.load(content.decode('utf-8'), Loader=_Loader)
    except FileNotFoundError as error:
        raise CompSRTError(f'The option file `{path}` does not exist: check the path after -opt.') from error
    except OSError as error:
        raise CompSRTError(f'The option file `{path}` cannot be read: {error.strerror}.') from error
    except UnicodeDecodeError as error:
        raise CompSRTError(f'The option file `{path}` is not UTF-8 text: save it as UTF-8.') from error
    except yaml.YAMLError as error:
        raise CompSRTError(f'The option file `{path}` is not valid YAML: {_describe(error)}.') from error
    except RecursionError as error:
        raise CompSRTError(f'The option file `{path}` is nested too deeply.') from error
    if not isinstance(opt, OrderedDict):
        raise CompSRTError(f'The option file `{path}` must hold `key: value` pairs, got {type(opt).__name__}.')
    return opt, OptionPath(path, content)


def copy_option_file(original: Callable[[str, str], None], opt_file: str, experiments_root: str) -> None:
    """Keeps the options beside the experiment; replaces BasicSR's `copy_opt_file`, which reads the file anew.

    Args:
        original: BasicSR's function, used for paths that did not come through `read_option_file`.
        opt_file: Path of the option file.
        experiments_root: Folder of the experiment.
    """
    if not isinstance(opt_file, OptionPath):
        original(opt_file, experiments_root)
        return
    from basicsr.utils.dist_util import get_dist_info

    if get_dist_info()[0] != 0:
        return
    header = f'# GENERATE TIME: {time.asctime()}\n# CMD:\n# {" ".join(sys.argv)}\n\n'
    with open(os.path.join(experiments_root, os.path.basename(opt_file)), 'wb') as stream:
        stream.write(header.encode('utf-8', 'replace') + opt_file.content)


def _describe(error: yaml.YAMLError) -> str:
    """Returns what is wrong and on which line."""
    mark = getattr(error, 'problem_mark', None)
    problem = getattr(error, 'problem', None) or str(error).splitlines()[0]
    return f'{problem} (line {mark.line + 1})' if mark is not None else problem
