"""Write the records of integer execution into docs/integer.md, between its markers.

python scripts/execution_tables.py [PAGE]

Records are made by scripts/benchmark_execution.py (execution.json; execution_other.json on another processor),
scripts/compare_execution.py (execution_parity.json) and scripts/benchmark_gpu.py (gpu.json); a test compares the
committed page with what this writes.
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

from compsrt_basicsr.study.bench.modes import FP32, INTEGER
from compsrt_basicsr.study.bench.report import profile_table
from compsrt_basicsr.study.bench.rivals import RIVALS
from compsrt_basicsr.utils.text import counted

DOCS = Path(__file__).resolve().parents[1] / 'docs'


def timing(record: dict[str, Any]) -> str:
    """Returns what was measured where, how far ahead integer codes are, and the time of each mode."""
    rows = record['rows']
    machine = (
        f'{record["processor"]} ({", ".join(record["instructions"])}), torch {record["torch"]}, '
        f'{counted(len(rows[0]["seconds"]), "round")}, load average {record["load"]} at the end.'
    )
    failed = [f'`{mode}` is not measured: {reason}' for mode, reason in record.get('failed', {}).items()]
    reached = [peaks_sentence(record['peaks'])] if record.get('peaks') else []
    parts = [f'Command: `{record["command"]}`', machine, *failed, *reached, lead_table(record), seconds_table(record)]
    return '\n\n'.join(parts)


def peaks_sentence(reached: list[dict[str, Any]]) -> str:
    """Says what the processor itself reaches on each number of threads."""
    of = [
        f'{peak["codes"] / 1e9:.0f} of codes and {peak["float32"] / 1e9:.0f} of floats '
        f'on {counted(peak["threads"], "thread")}'
        for peak in reached
        if peak['codes']
    ]
    return f'GMAC/s that the processor reaches: {", ".join(of)}.'


def lead_table(record: dict[str, Any]) -> str:
    """How many times as fast integer codes are as the best rival, and as torch: median and range over the rounds.

    `GMAC/s` are the multiplications of the network in full precision a second; their share is that of the products of
    codes that the processor reaches.
    """
    peaks = {peak['threads']: peak['codes'] for peak in record.get('peaks', [])}
    lines = []
    for (threads, size), modes in _groups(record).items():
        ours, best = modes.get(INTEGER), best_rival(modes)
        if ours is None:
            continue
        rate, peak = ours['multiplications'] / statistics.median(ours['seconds']), peaks.get(threads)
        lines.append(
            [
                str(threads),
                f'{size}×{size}',
                _lead(best, ours),
                best['mode'] if best else '–',
                _lead(modes.get(FP32), ours),
                f'{rate / 1e9:.0f}',
                f'{100 * rate / peak:.0f}%' if peak else '–',
            ]
        )
    headers = ['threads', 'LR size', 'over the best rival', 'which', 'over torch fp32', 'GMAC/s', 'of the peak']
    return tabulate(lines, headers, 'github', disable_numparse=True, colalign=['right'] * len(headers))


def best_rival(modes: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the row of the fastest rival, None where there is none."""
    rivals = [row for mode, row in modes.items() if mode in RIVALS]
    return min(rivals, key=lambda row: statistics.median(row['seconds']), default=None)


def leads(record: dict[str, Any], over: str) -> str:
    """Says how many times as fast integer codes are over all sizes, smallest to largest median.

    Args:
        record: of `benchmark_execution.py`.
        over: the mode that they are compared with, or `rivals` for the fastest.
    """
    ratios = []
    for modes in _groups(record).values():
        other = best_rival(modes) if over == 'rivals' else modes.get(over)
        if other and INTEGER in modes:
            ratios.append(statistics.median(_ratios(other, modes[INTEGER])))
    return f'{min(ratios):.1f} to {max(ratios):.1f}'


def seconds_table(record: dict[str, Any]) -> str:
    """Median seconds of each mode, a column for each size, and in brackets the GMAC/s."""
    groups = _groups(record)
    sizes = list(dict.fromkeys(size for _, size in groups))
    lines = []
    for threads in dict.fromkeys(threads for threads, _ in groups):
        of = {size: groups[threads, size] for size in sizes if (threads, size) in groups}
        for mode in dict.fromkeys(mode for modes in of.values() for mode in modes):
            cells = [_cell(of.get(size, {}).get(mode)) for size in sizes]
            lines.append([str(threads), mode, *cells])
    headers = ['threads', 'mode', *(f'{size}×{size}' for size in sizes)]
    align = ['right', 'left', *['right'] * len(sizes)]
    return tabulate(lines, headers, 'github', disable_numparse=True, colalign=align)


def gpu_table(record: dict[str, Any]) -> str:
    """Median milliseconds of each variant on a GPU, its speed relative to fp32, and its memory."""
    base = {row['size']: row for row in record['rows'] if row['variant'] == FP32}
    lines = []
    for row in record['rows']:
        seconds = statistics.median(row['seconds'])
        lines.append(
            [
                f'{row["size"]}×{row["size"]}',
                row['variant'],
                f'{1000 * seconds:.2f}',
                _lead(base.get(row['size']), row),
                f'{row["multiplications"] / seconds / 1e9:,.0f}',
                f'{row["memory"] / 1e6:,.0f}' if row['memory'] is not None else '–',
                f'{row["psnr"]:.1f}' if row['psnr'] is not None else '–',
            ]
        )
    failed = [f'`{name}` is not measured: {reason}' for name, reason in record['failed'].items()]
    machine = f'{record["gpu"]}, torch {record["torch"]}, {counted(len(record["rows"][0]["seconds"]), "round")}.'
    headers = ['LR size', 'variant', 'ms', 'speed / fp32', 'GMAC/s', 'memory (MB)', 'PSNR to fake (dB)']
    align = ['left', 'left', *['right'] * 5]
    table = tabulate(lines, headers, 'github', disable_numparse=True, colalign=align)
    return '\n\n'.join([f'Command: `{record["command"]}`', machine, *failed, table])


def _groups(record: dict[str, Any]) -> dict[tuple[int, int], dict[str, Any]]:
    """The rows by threads and size, then by mode."""
    groups: dict[tuple[int, int], dict[str, Any]] = {}
    for row in record['rows']:
        groups.setdefault((row['threads'], row['size']), {})[row['mode']] = row
    return groups


def _lead(other: dict[str, Any] | None, ours: dict[str, Any]) -> str:
    if other is None:
        return '–'
    ratios = _ratios(other, ours)
    return f'{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})'


def _ratios(other: dict[str, Any], ours: dict[str, Any]) -> list[float]:
    return [b / t for b, t in zip(other['seconds'], ours['seconds'])]


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return '–'
    seconds = statistics.median(row['seconds'])
    return f'{seconds:.3f} ({row["multiplications"] / seconds / 1e9:.0f})'


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
    gpu = records / 'gpu.json'
    own, other, parity = (json.loads((records / name).read_text()) for name in names)
    return {
        'timing': timing(own),
        'timing on another processor': timing(other),
        'profile': profile_table(own['profile']),
        'gpu': gpu_table(json.loads(gpu.read_text())) if gpu.exists() else 'Not measured yet.',
        'parity': f'Command: `{parity["command"]}`\n\n{parity_table(parity)}',
    }


def main() -> None:
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / 'integer.md'
    page.write_text(fill(page.read_text(encoding='utf-8'), tables(DOCS / 'results')), encoding='utf-8')


if __name__ == '__main__':
    main()
