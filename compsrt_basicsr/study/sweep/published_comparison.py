"""The published figure beside a measured one, and what must be said of it."""

from __future__ import annotations

from dataclasses import dataclass

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.catalog import find
from compsrt_basicsr.study.published import Cell, published_row
from compsrt_basicsr.study.sweep.collect import Row

PUBLISHED = {
    'full_precision': 'SwinIR-light FP',
    'minmax': 'MinMax',
    'percentile': 'Percentile',
    'dobi': 'DOBI only',
    '2dquant': '2DQuant',
    'condiquant': 'CondiQuant',
    'compsrt': 'CompSRT',
    'compsrt_paper': 'CompSRT',
}
MARKS = {
    '†': 'published on other weights: the teacher here is not the official one',
    '‡': 'published for codes that are not clamped to b bits; these are',
    '§': 'cannot be right as printed',
}


@dataclass(frozen=True)
class Beside:
    """A published cell.

    Attributes:
        cell: as published.
        marks: of `MARKS`, what to keep in mind.
    """

    cell: Cell
    marks: str

    def value(self, metric: str) -> float:
        """PSNR in dB or SSIM."""
        return getattr(self.cell, metric)

    def shown(self, metric: str) -> str:
        """'[37.87†]'; the mark of an impossible cell only where it is the impossible figure."""
        marks = self.marks if metric in self.cell.note.lower() else self.marks.replace('§', '')
        return f'[{self.value(metric):.{2 if metric == "psnr" else 4}f}{marks}]'


def published_beside(row: Row) -> dict[str, Beside]:
    """The published cells of a row by data set; none for pruned rows and for methods with other options."""
    if not row.plain or row.pruned or not row.bits.isdigit() or row.method not in PUBLISHED:
        return {}
    marks = '' if has_official_teacher(row) else '†'
    if row.method == 'compsrt':
        marks += '‡'
    cells = published_row(PUBLISHED[row.method], row.scale, int(row.bits))
    return {name: Beside(cell, marks + ('§' if cell.note else '')) for name, cell in cells.items()}


def has_official_teacher(row: Row) -> bool:
    """Whether a row comes from the weights that the published tables start from."""
    try:
        official = find(f'swinir_light_x{row.scale}').entry.sha256
    except CompSRTError:
        return False
    return official is not None and row.runs[0]['protocol']['teacher_sha256'] == official
