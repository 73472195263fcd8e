"""Option files: how they are read, and the copy kept beside an experiment."""

from __future__ import annotations

import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.yaml_reader import parse_yaml


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
        text = content.decode('utf-8')
    except FileNotFoundError as error:
        raise CompSRTError(f'The option file `{path}` does not exist: check the path after -opt.') from error
    except OSError as error:
        raise CompSRTError(f'The option file `{path}` cannot be read: {error.strerror}.') from error
    except UnicodeDecodeError as error:
        raise CompSRTError(f'The option file `{path}` is not UTF-8 text: save it as UTF-8.') from error
    opt = parse_yaml(text, f'The option file `{path}`', OrderedDict)
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
