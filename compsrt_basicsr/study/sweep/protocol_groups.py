"""Which runs may stand in one table: those of the same protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.collect import Record

_SPOKEN = {
    'border': 'the border cropped',
    'channel': 'the channel',
    'padding': 'the padding',
    'iterations': 'the iterations',
    'batch': 'the batch',
    'lr_patch': 'the LR patch',
    'teacher_sha256': 'the teacher',
    'train': 'the training pictures',
}


def signature(record: Record) -> dict[str, Any]:
    """What a record must share with its table; None matches anything.

    A network that was not trained has no iterations and no batch, a teacher nothing of a training at all: they fit
    beside any budget. Scale, bits, method and seed are axes, not protocol; a table is of one scale.
    """
    protocol = record['protocol']
    found = {key: protocol[key] for key in _SPOKEN}
    if not protocol['iterations']:
        found |= {'iterations': None, 'batch': None}
    found['train'] = protocol['train']['sha256'] if isinstance(protocol['train'], Mapping) else protocol['train']
    found |= {f'the pictures of {name}': print_['sha256'] for name, print_ in protocol['tests'].items()}
    if record['quant'] is None:
        found |= {'lr_patch': None, 'train': None}
    return found


def groups(records: Sequence[Record], allow_mixed: bool = False) -> list[list[Record]]:
    """Records of one scale by protocol; those that fit several stand in each.

    Raises:
        CompSRTError: there are several protocols, unless that is allowed.
    """
    trained = [record for record in records if record['protocol']['iterations']]
    found: list[list[Record]] = []
    for record in [*trained, *(record for record in records if record not in trained)]:
        fitting = [group for group in found if all(_fit(record, other) for other in group)]
        if not fitting:
            found.append([])
            fitting = [found[-1]]
        for group in fitting:
            group.append(record)
    if len(found) > 1 and not allow_mixed:
        raise CompSRTError(_difference(found))
    return found


def _fit(one: Record, other: Record) -> bool:
    return not _differing(one, other)


def _differing(one: Record, other: Record) -> list[tuple[str, Any, Any]]:
    first, second = signature(one), signature(other)
    common = [key for key in first if first[key] is not None and second.get(key) is not None]
    return [(_SPOKEN.get(key, key), first[key], second[key]) for key in common if first[key] != second[key]]


def _difference(found: Sequence[Sequence[Record]]) -> str:
    one, other = next((a, b) for a in found[0] for b in found[1] if _differing(a, b))
    what = '; '.join(f'{name} ({_short(a)} and {_short(b)})' for name, a, b in _differing(one, other))
    return (
        f'The runs are of {len(found)} protocols, so they do not belong in one table: {one["name"]} and '
        f'{other["name"]} differ in {what}. Give --allow-mixed for separate tables.'
    )


def _short(value: Any) -> str:
    text = str(value)
    return f'{text[:12]}…' if len(text) == 64 else text


def sentence(group: Sequence[Record]) -> str:
    """The protocol of a table in one sentence."""
    first = max(group, key=lambda record: record['protocol']['iterations'])
    protocol = first['protocol']
    training = (
        f'{protocol["iterations"]:,} iterations, batch {protocol["batch"]}, LR patches of '
        f'{protocol["lr_patch"]}x{protocol["lr_patch"]}'
        if protocol['iterations']
        else 'not trained'
    )
    channel = 'Y channel' if protocol['channel'] == 'y' else 'RGB'
    return (
        f'x{protocol["scale"]}, {channel}, a border of {protocol["border"]} pixels cropped, {protocol["padding"]} '
        f'padding; teacher {protocol["teacher"]} ({_short(protocol["teacher_sha256"])}); {training}; the last '
        'network of each run, none chosen by a test set.'
    )
