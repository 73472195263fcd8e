"""The records of a folder as the rows of a table: one row a scale, bit width and method, its seeds together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.record import read_record
from compsrt_basicsr.study.sweep.runs import FULL_PRECISION

Record = dict[str, Any]
OWN_COLUMNS = ('method', 'bits', 'scale', 'seed')  # axes that are no part of a row's name, or its start
FULL_BITS = 32
METHODS = (
    FULL_PRECISION, 'minmax', 'percentile', 'dobi', 'lsq', 'lsq+', '2dquant', 'condiquant', 'compsrt', 'compsrt_paper'
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seed alone.

    Attributes:
        name: the method, with the values of the other axes: 'compsrt, transform=dct'.
        method: value of the axis `method`, or what the options name.
        plain: whether the method is all that the name tells.
        bits: '4', 'w4a8'; '32' for full precision.
        scale: upscaling factor.
        runs: their records, by seed.
    """

    name: str
    method: str
    plain: bool
    bits: str
    scale: int
    runs: tuple[Record, ...]

    @property
    def is_teacher(self) -> bool:
        """Whether this is the full-precision network."""
        return self.method == FULL_PRECISION

    @property
    def sets(self) -> tuple[str, ...]:
        """Test sets that all of its runs have."""
        first, *others = self.runs
        return tuple(name for name in first['results'] if all(name in run['results'] for run in others))

    @property
    def bits_per_parameter(self) -> float:
        """b (1 - p), and one more for the mask where weights are pruned (method of the published 2.8 and 3.4 bits)."""
        quant = self.runs[0]['quant']
        if quant is None or quant.get('operands') == 'activations':
            return float(FULL_BITS)
        ratio = quant['prune_ratio']
        return quant['weight_bits'] * (1 - ratio) + (1 if ratio else 0)

    @property
    def pruned(self) -> float:
        """p, share of pruned weights."""
        quant = self.runs[0]['quant']
        return quant['prune_ratio'] if quant else 0.0

    def means(self, metric: str, dataset: str) -> list[float]:
        """Mean over the pictures of a set, one a seed."""
        return [run['results'][dataset][metric] for run in self.runs]

    def levels(self, what: str) -> int | None:
        """`levels_max` or `levels_over`, the largest over seeds and sets; None where none were counted."""
        found = [values[what] for run in self.runs for values in run['results'].values() if what in values]
        return int(max(found)) if found else None

    @property
    def exceeds(self) -> bool:
        """Whether a quantizer used more than 2^b codes: then this is no b-bit result."""
        return bool(self.levels('levels_over'))


def read_runs(folder: Path) -> tuple[list[Record], list[str]]:
    """The records below a grid's folder, or in a folder of such files.

    Returns:
        Records, and a sentence for each file that is damaged.

    Raises:
        CompSRTError: there is none.
    """
    if not folder.is_dir():
        raise CompSRTError(f'`{folder}` is not a folder; give the one that `compsrt grid` wrote.')
    files = sorted((folder / 'runs').glob('*.json') if (folder / 'runs').is_dir() else folder.glob('*.json'))
    records, faults = [], []
    for file in files:
        try:
            records.append(read_record(file))
        except CompSRTError as error:
            faults.append(str(error))
    if not records:
        raise CompSRTError(
            f'`{folder}` holds no record of a finished run{f" ({len(faults)} are damaged)" if faults else ""}: '
            'give a folder that `compsrt grid` wrote.'
        )
    return records, faults


def read_folders(folders: Sequence[Path], methods: Sequence[str] = ()) -> tuple[list[Record], list[str]]:
    """The records of several folders as `read_runs` gives them, those of the methods as `of_methods` chooses them."""
    found = [read_runs(folder) for folder in folders]
    records = of_methods([record for of_folder, _ in found for record in of_folder], methods)
    return records, [fault for _, faults in found for fault in faults]


def of_methods(records: Sequence[Record], patterns: Sequence[str]) -> list[Record]:
    """The records whose row's name matches one of the patterns, and those of full precision.

    Args:
        records: of finished runs.
        patterns: such as 'compsrt' or 'compsrt, part=*'; none leaves all records.

    Raises:
        CompSRTError: a pattern that no record matches.
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
    """Rows by scale, by bits from many to few, and by method in the order of `METHODS`; the same run counts once.

    Raises:
        CompSRTError: two records are of the same run with other options.
    """
    found: dict[tuple[int, str, str], dict[str, Record]] = {}
    for record in records:
        key = record['protocol']['scale'], _bits(record), _name(record)
        seeds = found.setdefault(key, {})
        seed = seed_of(record)
        if seed in seeds:
            if all(seeds[seed][part] == record[part] for part in ('hash', 'protocol')):  # one run, done for two grids
                continue
            raise CompSRTError(
                f'{seeds[seed]["name"]}.json and {record["name"]}.json are of the same method, bits, scale and seed '
                'with other options: keep one of them, or make the difference an axis of the grid.'
            )
        seeds[seed] = record
    rows = [
        Row(name, method_of(next(iter(seeds.values()))), _is_plain(name), bits, scale, tuple(seeds.values()))
        for (scale, bits, name), seeds in found.items()
    ]
    return sorted(rows, key=lambda row: (row.scale, *_descending(row.bits), _place(row.method), row.name))


def _place(method: str) -> int:
    return METHODS.index(method) if method in METHODS else len(METHODS)


def seed_of(record: Record) -> str:
    """A record's value on the axis `seed`; without one the seed of its options."""
    return str(record['axes'].get('seed', record['seed']))


def method_of(record: Record) -> str:
    """Name of a record's method; without an axis `method` that of its options, or what their code range amounts to."""
    if 'method' in record['axes']:
        return record['axes']['method']
    quant = record['quant'] or {}
    return quant.get('method') or ('compsrt_paper' if quant.get('code_range') == 'paper' else 'compsrt')


def _name(record: Record) -> str:
    others = [f'{axis}={value}' for axis, value in record['axes'].items() if axis not in OWN_COLUMNS]
    return ', '.join([method_of(record), *others])


def _is_plain(name: str) -> bool:
    return ', ' not in name


def _bits(record: Record) -> str:
    quant = record['quant']
    if quant is None:
        return str(FULL_BITS)
    weight, act = quant['weight_bits'], quant['act_bits']
    return str(weight) if weight == act else f'w{weight}a{act}'


def _descending(bits: str) -> tuple[int, str]:
    digits = ''.join(c if c.isdigit() else ' ' for c in bits).split()
    return -int(digits[0]), bits
