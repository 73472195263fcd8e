"""The published values beside the measured ones, marked with what limits the comparison."""

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
    'spr2q': 'SPR2Q',
    'compsrt': 'CompSRT',
    'compsrt_paper': 'CompSRT',
}
MARKS = {
    '†': 'published for other weights: the teacher here is not the official one',
    '‡': 'published for codes that are not clamped to b bits; these are',
    '§': 'impossible as printed',
}


@dataclass(frozen=True)
class MarkedCell:
    """A published cell with its marks, keys of `MARKS`."""

    cell: Cell
    marks: str

    def value(self, metric: str) -> float:
        """Returns PSNR in dB or SSIM."""
        return getattr(self.cell, metric)

    def shown(self, metric: str) -> str:
        """Returns such as '[37.87†]'; § stands only with the value that is impossible."""
        marks = self.marks if metric in self.cell.note.lower() else self.marks.replace('§', '')
        return f'[{self.value(metric):.{2 if metric == "psnr" else 4}f}{marks}]'


def published_cells(row: Row) -> dict[str, MarkedCell]:
    """Returns the published cells of a row by data set; none for pruned rows and methods with other options."""
    if not row.is_plain or row.prune_ratio or not row.bits.isdigit() or row.method not in PUBLISHED:
        return {}
    marks = '' if _has_official_teacher(row) else '†'
    if row.method == 'compsrt':
        marks += '‡'
    cells = published_row(PUBLISHED[row.method], row.scale, int(row.bits))
    return {name: MarkedCell(cell, marks + ('§' if cell.note else '')) for name, cell in cells.items()}


def _has_official_teacher(row: Row) -> bool:
    """Tells whether a row starts from the weights of the published tables."""
    try:
        official = find(f'swinir_light_x{row.scale}').entry.sha256
    except CompSRTError:
        return False
    return official is not None and row.runs[0]['protocol']['teacher_sha256'] == official
