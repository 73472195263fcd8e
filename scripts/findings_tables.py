"""The tables of docs/findings.md: what each method loses and compsrt is ahead by, and what transforms give calibration.

`scripts/make_results.py` writes them, from the records that docs/results.md is made of.
"""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from compsrt_basicsr.study.sweep.collect import Record, Row, rows_of
from compsrt_basicsr.study.sweep.paired_comparison import contests

OURS = 'compsrt'
HEADERS = ('method', 'seeds', 'loss at {} bits', '`compsrt` ahead at {} bits')


def losses(records: Sequence[Record]) -> str:
    """From the records of house_x2.yml; a line a method, compsrt last."""
    rows = rows_of(records)
    widths = [row.bits for row in rows if row.name == OURS]
    ahead = {(contest.other.name, contest.other.bits): contest.pictures for contest in contests(rows, OURS, 'psnr')}
    names = dict.fromkeys(row.name for row in rows if not row.is_teacher and row.name != OURS)
    lines = []
    for name in (*names, OURS):
        own = {row.bits: row for row in rows if row.name == name}
        results = [ahead.get((name, bits)) for bits in widths]
        lines.append(
            [
                f'`{name}`' + ' \\*' * any(row.exceeds for row in own.values()),
                '/'.join(dict.fromkeys(str(len(own[bits].runs)) for bits in widths if bits in own)),
                *(f'{loss(rows, name, bits):.2f}' if bits in own else '–' for bits in widths),
                *(f'{r.mean:+.3f} ({r.low:.3f} to {r.high:.3f})' if r else '–' for r in results),
            ]
        )
    headers = [*HEADERS[:2], *(text.format(bits) for text in HEADERS[2:] for bits in widths)]
    return tabulate(lines, headers, tablefmt='github', disable_numparse=True)


def transforms(records: Sequence[Record]) -> str:
    """From the records of transform_x2.yml: PSNR on Set5, a line a transform."""
    rows = [row for row in rows_of(records) if not row.is_teacher]
    found: dict[str, dict[tuple[str, str], float]] = {}
    for row in rows:
        axes = row.runs[0]['axes']
        found.setdefault(axes['transform'], {})[row.bits, axes['calibration']] = psnr(rows, row.name, row.bits)
    columns = [(bits, how) for bits in dict.fromkeys(row.bits for row in rows) for how in ('plain', 'refitted')]
    order = [name for name in ('none', 'hadamard', 'random', 'dct', 'padded') if name in found]
    lines = [[f'`{name}`', *(found[name].get(column) for column in columns)] for name in order]
    headers = ['transform', *(f'{bits} bits, {how}' for bits, how in columns)]
    return tabulate(lines, headers, tablefmt='github', floatfmt='.2f', missingval='–')


def loss(rows: Sequence[Row], method: str, bits: str, dataset: str = 'Set5') -> float:
    """PSNR of full precision - that of a method, mean over seeds, dB."""
    return psnr(rows, 'full_precision', '32', dataset) - psnr(rows, method, bits, dataset)


def psnr(rows: Sequence[Row], method: str, bits: str, dataset: str = 'Set5') -> float:
    """PSNR of a method on a set, mean over seeds, dB."""
    means = next(row for row in rows if (row.name, row.bits) == (method, bits)).means('psnr', dataset)
    return sum(means) / len(means)
