"""The records of finished runs as rows of a table: one row for a scale, bit width and method, with all its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.read_record import read_record
from compsrt_basicsr.study.sweep.runs import FULL_PRECISION

Record = dict[str, Any]
OWN_COLUMNS = ('method', 'bits', 'scale', 'seed')  # axes that are columns, and no part of a row's name
FULL_BITS = 32
METHODS = (
    FULL_PRECISION, 'minmax', 'percentile', 'dobi', 'lsq', 'lsq+', '2dquant', 'condiquant', 'spr2q', 'compsrt',
    'compsrt_paper',
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seed alone.

    Attributes:
        name: the method with the values of the other axes, such as 'compsrt, transform=dct'.
        method: value of the axis `method`, or the method of the options.
        bits: such as '4' or 'w4a8'; '32' for full precision.
        scale: upscaling factor.
        runs: their records.
    """

    name: str
    method: str
    bits: str
    scale: int
    runs: tuple[Record, ...]

    @property
    def is_teacher(self) -> bool:
        """Whether this is the full-precision network."""
        return self.method == FULL_PRECISION

    @property
    def is_plain(self) -> bool:
        """Whether the name holds no other axes than the method."""
        return ', ' not in self.name

    @property
    def sets(self) -> tuple[str, ...]:
        """Test sets that all runs have in common."""
        first, *others = self.runs
        return tuple(name for name in first['results'] if all(name in run['results'] for run in others))

    @property
    def bits_per_parameter(self) -> float:
        """Returns b (1 - p), plus 1 for the mask if weights are pruned; so are the published 2.8 and 3.4 bits."""
        quant = self.runs[0]['quant']
        if quant is None or quant.get('operands') == 'activations':
            return float(FULL_BITS)
        return quant['weight_bits'] * (1 - self.prune_ratio) + (1 if self.prune_ratio else 0)

    @property
    def prune_ratio(self) -> float:
        """Share p of pruned weights, 0 to 1."""
        quant = self.runs[0]['quant']
        return quant['prune_ratio'] if quant else 0.0

    @property
    def levels_max(self) -> int | None:
        """Largest number of codes in a quantizer over seeds and sets; None if codes were not counted."""
        return self._largest('levels_max')

    @property
    def levels_over(self) -> int | None:
        """Largest number of quantizers with more than 2^b codes over seeds and sets; None if they were not counted."""
        return self._largest('levels_over')

    @property
    def exceeds_bits(self) -> bool:
        """Whether a quantizer used more than 2^b codes; the row is then no b-bit result."""
        return bool(self.levels_over)

    def means(self, metric: str, dataset: str) -> list[float]:
        """Returns the mean over the images of a set for each run."""
        return [run['results'][dataset][metric] for run in self.runs]

    def _largest(self, key: str) -> int | None:
        found = [values[key] for run in self.runs for values in run['results'].values() if key in values]
        return int(max(found)) if found else None


def read_runs(folder: Path) -> tuple[list[Record], list[str]]:
    """Reads the records below a sweep's folder, or in a folder of such files.

    Returns:
        The records, and a sentence for each damaged file.

    Raises:
        CompSRTError: if there is no record.
    """
    if not folder.is_dir():
        raise CompSRTError(f'`{folder}` is not a folder; give the one that `compsrt sweep` wrote.')
    files = sorted((folder / 'runs').glob('*.json') if (folder / 'runs').is_dir() else folder.glob('*.json'))
    records, errors = [], []
    for file in files:
        try:
            records.append(read_record(file))
        except CompSRTError as error:
            errors.append(str(error))
    if not records:
        raise CompSRTError(
            f'`{folder}` holds no record of a finished run{f" (damaged: {len(errors)})" if errors else ""}: '
            'give a folder that `compsrt sweep` wrote.'
        )
    return records, errors


def read_folders(folders: Sequence[Path], methods: Sequence[str] = ()) -> tuple[list[Record], list[str]]:
    """Reads several folders like `read_runs`, and keeps the records of some methods like `select_methods`."""
    found = [read_runs(folder) for folder in folders]
    records = select_methods([record for of_folder, _ in found for record in of_folder], methods)
    return records, [error for _, errors in found for error in errors]


def select_methods(records: Sequence[Record], patterns: Sequence[str]) -> list[Record]:
    """Returns the records whose row's name matches a pattern, and those of full precision.

    Args:
        records: of finished runs.
        patterns: such as 'compsrt' or 'compsrt, part=*'; none of them keeps all records.

    Raises:
        CompSRTError: if a pattern matches no record.
    """
    if not patterns:
        return list(records)
    names = dict.fromkeys(_name(record) for record in records)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise CompSRTError(f'`--method {pattern}` matches no run; there are: {"; ".join(names)}.')
    return [
        record
        for record in records
        if method_of(record) == FULL_PRECISION or any(fnmatchcase(_name(record), pattern) for pattern in patterns)
    ]


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Returns rows by scale, by bits from many to few, and by method in the order of `METHODS`.

    A run that several sweeps share counts once.

    Raises:
        CompSRTError: if two records are of the same run with other options.
    """
    found: dict[tuple[int, str, str], dict[str, Record]] = {}
    for record in records:
        seeds = found.setdefault((record['protocol']['scale'], _bits(record), _name(record)), {})
        other = seeds.setdefault(seed_of(record), record)
        if any(other[part] != record[part] for part in ('hash', 'protocol')):
            raise CompSRTError(
                f'{other["name"]}.json and {record["name"]}.json are of the same method, bits, scale and seed '
                'with other options: keep one of them, or make the difference an axis of the sweep.'
            )
    rows = [
        Row(name, method_of(next(iter(seeds.values()))), bits, scale, tuple(seeds.values()))
        for (scale, bits, name), seeds in found.items()
    ]
    return sorted(rows, key=lambda row: (row.scale, *_descending(row.bits), _place(row.method), row.name))


def seed_of(record: Record) -> str:
    """Returns a record's value on the axis `seed`, or the seed of its options."""
    return str(record['axes'].get('seed', record['seed']))


def method_of(record: Record) -> str:
    """Returns a record's value on the axis `method`, or the method of its options, or that of its code range."""
    quant = record['quant'] or {}
    named = record['axes'].get('method') or record['options'].get('method') or quant.get('method')
    return named or ('compsrt_paper' if quant.get('code_range') == 'paper' else 'compsrt')


def _name(record: Record) -> str:
    others = [f'{axis}={value}' for axis, value in record['axes'].items() if axis not in OWN_COLUMNS]
    return ', '.join([method_of(record), *others])


def _bits(record: Record) -> str:
    quant = record['quant']
    if quant is None:
        return str(FULL_BITS)
    weight, act = quant['weight_bits'], quant['act_bits']
    return str(weight) if weight == act else f'w{weight}a{act}'


def _descending(bits: str) -> tuple[int, str]:
    """Returns a sort key by the bits of the weights, many first."""
    digits = ''.join(c if c.isdigit() else ' ' for c in bits).split()
    return -int(digits[0]), bits


def _place(method: str) -> int:
    return METHODS.index(method) if method in METHODS else len(METHODS)
