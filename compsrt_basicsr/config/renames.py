"""Renamed options: old names are read wherever options come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from copy import deepcopy
from typing import Any

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.log import logger

# New name by old one, for each section.
RENAMED: dict[str, dict[str, str]] = {
    'quant': {
        'bounds': 'learn_bounds',
        'scale_offset': 'learn_scale_offset',
        'zero_offset': 'learn_zero_offset',
        'convs': 'quantize_convs',
        'head_tail': 'quantize_head_tail',
        'seed': 'transform_seed',
    },
    'train': {'float_lr': 'unquantized_lr'},
    'val': {'levels': 'count_codes'},
}
_METHOD = 'network_g.quant.method'


def renamed(section: Mapping[str, Any], kind: str, where: str = '') -> dict[str, Any]:
    """Returns a section under today's names, in its order.

    Args:
        section: The options.
        kind: 'quant', 'train' or 'val'.
        where: Place of the section, for the message.

    Raises:
        CompSRTError: an option is given by its old and its new name.
    """
    new_names = RENAMED[kind]
    result = {new_names.get(key, key): value for key, value in section.items()}
    if len(result) < len(section):
        place = f'{where}.' if where else ''
        twice = [
            f'`{place}{old}` is the old name of `{new}`' for old, new in new_names.items() if {old, new} <= {*section}
        ]
        raise CompSRTError(f'{"; ".join(twice)}: give one of them.')
    return result


def renamed_record(record: dict[str, Any]) -> dict[str, Any]:
    """Returns the record of a checkpoint or packed file with the options of `quant` under today's names."""
    quant = record.get('quant')
    return {**record, 'quant': renamed(quant, 'quant')} if isinstance(quant, Mapping) else record


def current_path(path: str) -> str:
    """Returns the place of an option today, such as `network_g.quant.learn_bounds` for `network_g.quant.bounds`."""
    if path == _METHOD:
        return 'method'
    section, _, name = path.rpartition('.')
    kind = _kind(section)
    return path if kind is None else f'{section}.{RENAMED[kind].get(name, name)}'


def rename_run(opt: MutableMapping[str, Any], warn: bool = False) -> None:
    """Renames the options of a run in place, and moves `network_g.quant.method` to `method`.

    Args:
        opt: The options of a run.
        warn: Report the old names in one warning.

    Raises:
        CompSRTError: an option is given by its old and its new name.
    """
    changes = []
    for owner, key, where in _sections(opt):
        kind = _kind(where)
        if kind is not None:
            changes += [(f'{where}.{old}', f'{where}.{new}') for old, new in RENAMED[kind].items() if old in owner[key]]
            owner[key] = renamed(owner[key], kind, where)
    changes += _move_method(opt)
    if changes and warn:
        changed = ', '.join(f'`{old}` is now `{new}`' for old, new in changes)
        logger.warning(f'Options have new names; the old ones still work: {changed}.')


def _move_method(opt: MutableMapping[str, Any]) -> list[tuple[str, str]]:
    network = opt.get('network_g')
    quant = network.get('quant') if isinstance(network, Mapping) else None
    if not isinstance(quant, MutableMapping) or 'method' not in quant:
        return []
    method, known = quant.pop('method'), opt.get('method')
    if known not in (None, method):
        raise CompSRTError(f'`{_METHOD}` is the old place of `method`: give one of them.')
    if method is None or known is not None:
        return []
    opt['method'] = method
    return [(_METHOD, 'method')]


def _sections(opt: MutableMapping[str, Any]) -> Iterator[tuple[MutableMapping[str, Any], str, str]]:
    """Yields the sections that have renamed options: their owner, their key there, and their place."""
    for key in list(opt):
        value = opt[key]
        if not isinstance(value, MutableMapping):
            continue
        if str(key).startswith('network_') and isinstance(value.get('quant'), MutableMapping):
            yield value, 'quant', f'{key}.quant'
        elif _kind(str(key)) is not None:
            yield opt, key, str(key)


def _kind(section: str) -> str | None:
    """Returns the kind of the section at a place, None where no option was renamed."""
    if section.startswith('network_') and section.endswith('.quant'):
        return 'quant'
    return section if section in ('train', 'val') else None


def with_old_names(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of the options of a run under the names before any renaming, for checksums that must not change.

    The method of the run is `network_g.quant.method` again.
    """
    result = deepcopy(dict(opt))
    method = result.pop('method', None)
    for owner, key, where in _sections(result):
        old_names = {new: old for old, new in RENAMED.get(_kind(where) or '', {}).items()}
        owner[key] = {old_names.get(name, name): value for name, value in owner[key].items()}
    if method is not None:
        network = result.get('network_g') or {}
        result['network_g'] = {**network, 'quant': {**(network.get('quant') or {}), 'method': method}}
    return result
