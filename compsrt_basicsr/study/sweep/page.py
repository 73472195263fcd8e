"""The report of a folder of runs: report.md, results.csv, comparisons.csv and figures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compsrt_basicsr.study.sweep import tables
from compsrt_basicsr.study.sweep.collect import Record, Row, rows_of
from compsrt_basicsr.study.sweep.figures import draw_bits, draw_losses
from compsrt_basicsr.study.sweep.paired_comparison import METRICS, Contest, adjusted, check_reference, contests
from compsrt_basicsr.study.sweep.protocol_groups import groups, sentence
from compsrt_basicsr.study.sweep.published_comparison import MARKS, published_beside
from compsrt_basicsr.utils.atomic_write import write_text

_TITLES = {'psnr': 'PSNR (dB)', 'ssim': 'SSIM'}


@dataclass(frozen=True)
class Part:
    """What stands together: runs of one scale and one protocol."""

    number: int
    records: list[Record]
    rows: list[Row]

    @property
    def title(self) -> str:
        """'x2', 'x2, protocol 2'."""
        return f'x{self.rows[0].scale}' + (f', protocol {self.number}' if self.number else '')

    @property
    def stem(self) -> str:
        """Start of its figures' names."""
        return f'x{self.rows[0].scale}' + (f'_protocol{self.number}' if self.number else '')


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
        reference: the method that the others are compared with; `compsrt` where it is there.
        allow_mixed: make separate tables of runs of unlike protocol instead of refusing.
        figures: draw them, which needs matplotlib.

    Raises:
        CompSRTError: unlike protocols, doubled runs, an unknown reference.
    """
    parts = _parts(records, allow_mixed)
    reference = check_reference([row for part in parts for row in part.rows], reference)
    found = {metric: _contests(parts, reference, metric) for metric in METRICS} if reference else {}
    out.mkdir(parents=True, exist_ok=True)
    text = ['# Results', _origin(records, source)]
    for part in parts:
        text += _part(part, reference, out, figures)
    if reference is not None:
        text += _comparison(found, reference)
    text += _marks([row for part in parts for row in part.rows])
    lines = [line for part in parts for line in tables.results_csv(part.rows, part.number or 1)]
    write_text(out / 'results.csv', tables.to_csv(lines))
    compared = [line for per_part in found.values() for part, c in per_part for line in _csv(part, c)]
    if compared:
        write_text(out / 'comparisons.csv', tables.to_csv(compared))
    write_text(out / 'report.md', '\n\n'.join(text) + '\n')
    return out / 'report.md'


def _parts(records: Sequence[Record], allow_mixed: bool) -> list[Part]:
    parts = []
    for scale in sorted({record['protocol']['scale'] for record in records}):
        own = [record for record in records if record['protocol']['scale'] == scale]
        found = groups(own, allow_mixed)
        parts += [Part(n if len(found) > 1 else 0, group, rows_of(group)) for n, group in enumerate(found, 1)]
    return parts


def _contests(parts: Sequence[Part], reference: str, metric: str) -> list[tuple[Part, list[Contest]]]:
    """The contests of each part that has some; those of the whole report are one family."""
    found = [(part, contests(part.rows, reference, metric)) for part in parts]
    family = iter(adjusted([contest for _, own in found for contest in own]))
    return [(part, [next(family) for _ in own]) for part, own in found if own]


def _csv(part: Part, found: Sequence[Contest]) -> list[dict]:
    return tables.contests_csv(found, part.number or 1)


def source_of(folders: Sequence[str], methods: Sequence[str]) -> str:
    """What stands behind `compsrt report` for these folders and patterns of methods."""
    return shlex.join([*folders, *(word for method in methods for word in ('--method', method))])


def _origin(records: Sequence[Record], source: str) -> str:
    commits = sorted({_commit(record) for record in records})
    machines = sorted({_machine(record) for record in records})
    return (
        f'Made by `compsrt report {source}` from {len(records)} runs; code {", ".join(commits)}; '
        f'on {"; ".join(machines)}.'
    )


def _commit(record: Record) -> str:
    """Twelve digits, with '+' where files were changed since; the version outside a checkout."""
    commit = record.get('commit')
    return commit[:12] + ('+' if commit.endswith('+') else '') if commit else f'version {record["version"]}'


def _machine(record: Record) -> str:
    hardware, threads = record['hardware'], record['threads']
    place = hardware['gpu'] or f'{hardware["processor"]}, {threads} thread{"s"[: threads != 1]}'
    return f'{place}, torch {hardware["torch"]}'


def _part(part: Part, reference: str | None, out: Path, figures: bool) -> list[str]:
    text = [f'## {part.title}', f'Protocol: {sentence(part.records)}']
    for metric in METRICS:
        text += [
            f'### {part.title}: {_TITLES[metric]}',
            'Mean ± half of the 95% interval over seeds [published].',
            tables.results_table(part.rows, metric),
        ]
    if losses := tables.losses_table(part.rows):
        text += [f'### {part.title}: PSNR against full precision (dB)', losses]
    text += [f'### {part.title}: levels, size and time', tables.levels_table(part.rows)]
    if figures:
        drawn = draw_bits(part.rows, out / 'figures' / f'{part.stem}_bits')
        drawn += draw_losses(part.rows, out / 'figures' / f'{part.stem}_losses', reference)
        text += [f'![{f.stem}](figures/{f.name})' for f in drawn if f.suffix == '.png']
    return text


def _comparison(found: dict[str, list[tuple[Part, list[Contest]]]], reference: str) -> list[str]:
    text = [
        f'## {reference} against the others, picture by picture',
        f'Difference {reference} - other of each picture, a picture being its mean over the seeds that both have. '
        'One-sided tests of the hypothesis that the difference is above 0; Holm over all comparisons of the metric in '
        'this report. The last column is the published kind of test, over the means of the data sets: with n sets it '
        'cannot give less than 2^-n.',
    ]
    for metric, per_part in found.items():
        for part, own in per_part:
            text += [f'### {part.title}: {_TITLES[metric]}', tables.contest_table(own)]
    return text if len(text) > 2 else [*text, 'No other method was run at the same scale and bits.']


def _marks(rows: Sequence[Row]) -> list[str]:
    besides = [beside for row in rows for name, beside in published_beside(row).items() if name in row.sets]
    used = ''.join(beside.marks for beside in besides)
    notes = [f'{mark} {meaning}.' for mark, meaning in MARKS.items() if mark in used]
    if any(row.exceeds for row in rows):
        notes.append('\\* no b-bit result: quantizers used more than 2^b codes.')
    return ['  \n'.join(notes)] if notes else []
