"""The report of some runs: report.md, results.csv, comparisons.csv and figures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from compsrt_basicsr.study.sweep import tables
from compsrt_basicsr.study.sweep.collect import Record, Row
from compsrt_basicsr.study.sweep.figures import draw_bits, draw_losses
from compsrt_basicsr.study.sweep.paired_comparison import (
    METRICS,
    Comparison,
    adjust_by_holm,
    check_reference,
    compare_methods,
)
from compsrt_basicsr.study.sweep.protocol_groups import ProtocolGroup, describe_protocol, protocol_groups
from compsrt_basicsr.study.sweep.published_comparison import MARKS, published_cells
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.text import counted

_TITLES = {'psnr': 'PSNR (dB)', 'ssim': 'SSIM'}
_COMPARISON = """\
Each image gives one difference, {reference} minus the other method, averaged over the seeds that both have. The tests
are one-sided, for a difference above 0. Holm's adjustment is over all comparisons of the metric in this report. The
last column is the kind of test that is usually published, over the means of the data sets: with n sets its p is at
least 2^-n."""

Compared = list[tuple[ProtocolGroup, list[Comparison]]]


def write_report(
    records: Sequence[Record],
    out: Path,
    *,
    source: str,
    reference: str | None = None,
    allow_mixed: bool = False,
    figures: bool = True,
) -> Path:
    """Writes the report; returns its Markdown file.

    Args:
        records: of finished runs.
        out: folder, made if missing.
        source: the folders of the runs as the user named them, see `source_of`.
        reference: the method with which the others are compared; `compsrt` by default, if it was run.
        allow_mixed: make separate tables for runs of several protocols instead of refusing them.
        figures: draw figures, which needs matplotlib.

    Raises:
        CompSRTError: if protocols are mixed, runs are doubled, or the reference was not run.
    """
    groups = protocol_groups(records, allow_mixed)
    rows = [row for group in groups for row in group.rows]
    reference = check_reference(rows, reference)
    compared = {metric: _compare(groups, reference, metric) for metric in METRICS} if reference else {}
    out.mkdir(parents=True, exist_ok=True)
    text = ['# Results', _origin(records, source)]
    for group in groups:
        text += _results(group, reference, out, figures)
    if reference is not None:
        text += _comparisons(compared, reference)
    text += _notes(rows)
    lines = [line for group in groups for line in tables.results_csv(group.rows, group.number)]
    write_text(out / 'results.csv', tables.to_csv(lines))
    lines = [
        line for found in compared.values() for group, c in found for line in tables.comparisons_csv(c, group.number)
    ]
    if lines:
        write_text(out / 'comparisons.csv', tables.to_csv(lines))
    write_text(out / 'report.md', '\n\n'.join(text) + '\n')
    return out / 'report.md'


def source_of(folders: Sequence[str], methods: Sequence[str]) -> str:
    """Returns the arguments of `compsrt report` for these folders and patterns of methods."""
    return shlex.join([*folders, *(word for method in methods for word in ('--method', method))])


def _compare(groups: Sequence[ProtocolGroup], reference: str, metric: str) -> Compared:
    """Returns the comparisons of each group that has some, adjusted for the number of all of them."""
    found = [(group, compare_methods(group.rows, reference, metric)) for group in groups]
    adjusted = iter(adjust_by_holm([comparison for _, own in found for comparison in own]))
    return [(group, [next(adjusted) for _ in own]) for group, own in found if own]


def _origin(records: Sequence[Record], source: str) -> str:
    commits = sorted({_commit(record) for record in records})
    machines = sorted({_machine(record) for record in records})
    return (
        f'Made by `compsrt report {source}` from {counted(len(records), "run")}; code {", ".join(commits)}; '
        f'on {"; ".join(machines)}.'
    )


def _commit(record: Record) -> str:
    """Returns twelve digits, with '+' if files were changed since; the version outside a checkout."""
    commit = record.get('commit')
    return commit[:12] + ('+' if commit.endswith('+') else '') if commit else f'version {record["version"]}'


def _machine(record: Record) -> str:
    hardware, threads = record['hardware'], record['threads']
    place = hardware['gpu'] or f'{hardware["processor"]}, {counted(threads, "thread")}'
    return f'{place}, torch {hardware["torch"]}'


def _results(group: ProtocolGroup, reference: str | None, out: Path, figures: bool) -> list[str]:
    text = [f'## {group.title}', f'Protocol: {describe_protocol(group)}']
    for metric in METRICS:
        text += [
            f'### {group.title}: {_TITLES[metric]}',
            'Mean ± half of the 95% interval over seeds [published].',
            tables.results_table(group.rows, metric),
        ]
    if losses := tables.losses_table(group.rows):
        text += [f'### {group.title}: PSNR against full precision (dB)', losses]
    text += [f'### {group.title}: levels, size and time', tables.levels_table(group.rows)]
    if figures:
        drawn = draw_bits(group.rows, out / 'figures' / f'{group.stem}_bits')
        drawn += draw_losses(group.rows, out / 'figures' / f'{group.stem}_losses', reference)
        text += [f'![{f.stem}](figures/{f.name})' for f in drawn if f.suffix == '.png']
    return text


def _comparisons(compared: dict[str, Compared], reference: str) -> list[str]:
    text = [f'## {reference} against the others, image by image', _COMPARISON.format(reference=reference)]
    for metric, found in compared.items():
        for group, own in found:
            text += [f'### {group.title}: {_TITLES[metric]}', tables.comparison_table(own)]
    return text if len(text) > 2 else [*text, 'No other method was run at the same scale and bits.']


def _notes(rows: Sequence[Row]) -> list[str]:
    cells = [cell for row in rows for name, cell in published_cells(row).items() if name in row.sets]
    used = ''.join(cell.marks for cell in cells)
    notes = [f'{mark} {meaning}.' for mark, meaning in MARKS.items() if mark in used]
    if any(row.exceeds_bits for row in rows):
        notes.append('\\* no b-bit result: quantizers used more than 2^b codes.')
    return ['  \n'.join(notes)] if notes else []
