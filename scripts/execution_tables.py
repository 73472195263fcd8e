"""Write the records of integer execution into docs/integer.md, between its markers.

python scripts/execution_tables.py [PAGE]

Records are made by scripts/benchmark_execution.py (execution.json; execution_other.json on another processor) and
scripts/compare_execution.py (execution_parity.json); a test compares the committed page with what this writes.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from markers import fill
from tabulate import tabulate

from compsrt_basicsr.study.bench.report import profile_table

DOCS = Path(__file__).resolve().parents[1] / 'docs'


def timing_table(record: dict[str, Any]) -> str:
    """Median seconds of each variant and its speed relative to fp32, median and range over the rounds."""
    rows = []
    for size, seconds in record['seconds'].items():
        base = seconds['fp32']
        for variant, times in seconds.items():
            ratios = [b / t for t, b in zip(times, base)]
            spread = f'{min(ratios):.2f} to {max(ratios):.2f}'
            rows.append([f'{size}×{size}', variant, statistics.median(times), statistics.median(ratios), spread])
    headers = ['LR size', 'variant', 'median s', 'speed / fp32', 'range']
    return tabulate(rows, headers, tablefmt='github', floatfmt=('', '', '.3f', '.2f', ''))


def parity_table(record: dict[str, Any]) -> str:
    """PSNR of each image by variant, and the differences from fake quantization."""
    others = [name for name in record['psnr'] if name != 'fake']
    images = list(record['psnr']['fake'])
    rows = [_parity_row(image, lambda name, image=image: record['psnr'][name][image], others) for image in images]
    rows.append(_parity_row('mean', lambda name: statistics.mean(record['psnr'][name].values()), others))
    headers = ['image', 'fake', *(f'{name} − fake' for name in others)]
    return tabulate(rows, headers, tablefmt='github', floatfmt=('', '.5f', *('+.5f' for _ in others)))


def _parity_row(label: str, value: Callable[[str], float], others: list[str]) -> list[Any]:
    return [label, value('fake'), *(value(name) - value('fake') for name in others)]


def tables(records: Path) -> dict[str, str]:
    """Makes all tables of the page from the records in a folder."""
    names = ('execution.json', 'execution_other.json', 'execution_parity.json')
    timing, other, parity = (json.loads((records / name).read_text()) for name in names)
    return {
        'timing': _timing(timing),
        'timing on another processor': _timing(other),
        'profile': profile_table(timing['profile']),
        'parity': f'Command: `{parity["command"]}`\n\n{parity_table(parity)}',
    }


def _timing(record: dict[str, Any]) -> str:
    machine = (
        f'{record["processor"]} ({", ".join(record["instructions"])}), torch {record["torch"]}, '
        f'{record["threads"]} thread{"" if record["threads"] == 1 else "s"}, '
        f'{len(next(iter(record["seconds"].values()))["fp32"])} rounds, load average {record["load"]} at the end.'
    )
    return f'Command: `{record["command"]}`\n\n{machine}\n\n{timing_table(record)}'


def main() -> None:
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / 'integer.md'
    page.write_text(fill(page.read_text(encoding='utf-8'), tables(DOCS / 'results')), encoding='utf-8')


if __name__ == '__main__':
    main()
