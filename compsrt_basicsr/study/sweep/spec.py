"""Reading a sweep file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compsrt_basicsr.config.option_file import read_option_file
from compsrt_basicsr.config.renames import current_path, rename_run
from compsrt_basicsr.config.sweep import Changes, SweepOptions
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.expand_user import expand_user
from compsrt_basicsr.utils.log import logger


@dataclass(frozen=True)
class Sweep:
    """A sweep file whose base is read.

    Attributes:
        name: the file's stem unless the file gives another.
        base: the training options that all runs start from, `set` applied.
        options: the sections of the file.
    """

    name: str
    base: Mapping[str, Any]
    options: SweepOptions


def read_sweep(file: Path) -> Sweep:
    """Reads a sweep file.

    Raises:
        CompSRTError: if the file cannot be read or has errors. The message lists all of them.
    """
    content: dict[str, Any] = dict(read_option_file(str(file))[0])
    _rename_options(content)
    errors = SweepOptions.errors_of(content)
    given = content.get('base')
    if isinstance(given, str):
        path = file.parent / expand_user(given)
        if path.is_file():
            given = read_option_file(str(path))[0]
        else:
            errors.append(f'`base`: `{path}` does not exist; the path starts at the folder of the sweep file.')
    base: dict[str, Any] = _copied(given) if isinstance(given, Mapping) else {}
    rename_run(base, warn=True)
    if errors:
        listed = errors[0] if len(errors) == 1 else f'{len(errors)} errors:' + ''.join(f'\n  - {e}' for e in errors)
        raise CompSRTError(f'{file.name}: {listed}')
    options = SweepOptions.from_opt(content)
    return Sweep(options.name or file.stem, override(base, options.changes, '`set`'), options)


def override(options: Mapping[str, Any], changes: Changes, source: str) -> dict[str, Any]:
    """Returns a copy of options in which some are set by dotted path. Missing sections on the path are made.

    Args:
        options: the options, left as they are.
        changes: value by path, such as `network_g.quant.weight_bits`.
        source: where the changes come from, for the message.

    Raises:
        CompSRTError: if a path leads through a value.
    """
    result = _copied(options)
    for path, value in changes.items():
        *sections, last = str(path).split('.')
        section = result
        for depth, key in enumerate(sections, 1):
            if section.get(key) is None:
                section[key] = {}
            section = section[key]
            if not isinstance(section, dict):
                raise CompSRTError(f'{source}: `{".".join(sections[:depth])}` of `{path}` is a value, not a section.')
        section[last] = _copied(value)
    return result


def _copied(value: Any) -> Any:
    """Returns a copy of plain dictionaries and lists."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, (list, tuple)) else value


def _rename_options(content: dict[str, Any]) -> None:
    """Gives options of earlier versions their present names."""
    section = content.get('eval')
    if isinstance(section, Mapping) and 'levels' in section:
        logger.warning('`eval.levels` is now `eval.count_codes`.')
        section = dict(section)
        section.setdefault('count_codes', section.pop('levels'))
        content['eval'] = section
    renamed: dict[str, str] = {}
    if isinstance(content.get('set'), Mapping):
        content['set'] = _current(content['set'], renamed)
    axes = content.get('axes')
    if isinstance(axes, Mapping):
        content['axes'] = {
            axis: {value: _current(changes, renamed) for value, changes in values.items()}
            if isinstance(values, Mapping)
            else values
            for axis, values in axes.items()
        }
    if renamed:
        listed = ', '.join(f'`{old}` is now `{new}`' for old, new in renamed.items())
        logger.warning(f'Options have new names; the old ones still work: {listed}.')


def _current(changes: Any, renamed: dict[str, str]) -> Any:
    """Returns changes by the present paths of their options, and notes in `renamed` those that were others."""
    if not isinstance(changes, Mapping):
        return changes
    paths = {str(path): current_path(str(path)) for path in changes}
    renamed |= {old: new for old, new in paths.items() if old != new}
    return {paths[str(path)]: value for path, value in changes.items()}
