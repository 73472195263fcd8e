"""Groups of runs that may be compared: those of one scale and one protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.collect import Record, Row, rows_of

_WORDS = {
    'border': 'the border cropped',
    'channel': 'the channel',
    'padding': 'the padding',
    'iterations': 'the iterations',
    'batch': 'the batch',
    'lr_patch': 'the LR patch',
    'teacher_sha256': 'the teacher',
    'train': 'the training images',
}


@dataclass(frozen=True)
class ProtocolGroup:
    """Runs of one scale and one protocol, and their rows.

    Attributes:
        number: counts the protocols of a scale from 1.
        is_only: whether the scale has one protocol.
    """

    number: int
    is_only: bool
    records: list[Record]
    rows: list[Row]

    @property
    def title(self) -> str:
        """Such as 'x2' or 'x2, protocol 2'."""
        return f'x{self.rows[0].scale}' + ('' if self.is_only else f', protocol {self.number}')

    @property
    def stem(self) -> str:
        """Start of the names of its figures."""
        return f'x{self.rows[0].scale}' + ('' if self.is_only else f'_protocol{self.number}')


def protocol_groups(records: Sequence[Record], allow_mixed: bool = False) -> list[ProtocolGroup]:
    """Groups records by scale and protocol. Those that fit several groups stand in each.

    Raises:
        CompSRTError: if a scale has several protocols, unless `allow_mixed`; if runs are doubled.
    """
    found = []
    for scale in sorted({record['protocol']['scale'] for record in records}):
        groups = _by_protocol([record for record in records if record['protocol']['scale'] == scale])
        if len(groups) > 1 and not allow_mixed:
            raise CompSRTError(_difference(groups))
        found += [ProtocolGroup(i, len(groups) == 1, group, rows_of(group)) for i, group in enumerate(groups, 1)]
    return found


def describe_protocol(group: ProtocolGroup) -> str:
    """Returns the protocol of a group in one sentence."""
    protocol = max((record['protocol'] for record in group.records), key=lambda protocol: protocol['iterations'])
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


def _by_protocol(records: Sequence[Record]) -> list[list[Record]]:
    """Groups records of one scale, those of trained networks first."""
    groups: list[list[Record]] = []
    for record in sorted(records, key=lambda record: not record['protocol']['iterations']):
        fitting = [group for group in groups if not any(_differences(record, other) for other in group)]
        if not fitting:
            groups.append([])
            fitting = groups[-1:]
        for group in fitting:
            group.append(record)
    return groups


def _signature(record: Record) -> dict[str, Any]:
    """Returns what a record must share with its group; None matches anything.

    A network that was not trained has neither iterations nor a batch, and a teacher no training data either: they
    match any training. Scale, bits, method and seed are axes and no part of the protocol.
    """
    protocol = record['protocol']
    found = {key: protocol[key] for key in _WORDS}
    if not protocol['iterations']:
        found |= {'iterations': None, 'batch': None}
    found['train'] = protocol['train']['sha256'] if isinstance(protocol['train'], Mapping) else protocol['train']
    found |= {f'the images of {name}': print_['sha256'] for name, print_ in protocol['tests'].items()}
    if record['quant'] is None:
        found |= {'lr_patch': None, 'train': None}
    return found


def _differences(one: Record, other: Record) -> list[tuple[str, Any, Any]]:
    """Returns in what two records differ: what it is, and both values."""
    first, second = _signature(one), _signature(other)
    common = [key for key in first if first[key] is not None and second.get(key) is not None]
    return [(_WORDS.get(key, key), first[key], second[key]) for key in common if first[key] != second[key]]


def _difference(groups: Sequence[Sequence[Record]]) -> str:
    one, other = next((a, b) for a in groups[0] for b in groups[1] if _differences(a, b))
    what = '; '.join(f'{name} ({_short(a)} and {_short(b)})' for name, a, b in _differences(one, other))
    return (
        f'The runs are of {len(groups)} protocols, so they do not belong in one table: {one["name"]} and '
        f'{other["name"]} differ in {what}. Give --allow-mixed for separate tables.'
    )


def _short(value: Any) -> str:
    """Returns a value as text, checksums in twelve digits."""
    text = str(value)
    return f'{text[:12]}…' if len(text) == 64 else text
