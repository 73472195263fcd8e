"""Published PSNR and SSIM of quantized SwinIR-light, from `published.csv`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

TEST_SETS = ('Set5', 'Set14', 'B100', 'Urban100', 'Manga109')


@dataclass(frozen=True)
class Cell:
    """A published result: Y channel, a border of `scale` pixels cropped.

    Attributes:
        method: name in the published table.
        source: the paper of the table: CompSRT (arXiv 2601.21069), 2DQuant (2406.06649) or CondiQuant (2502.15478);
            SPR2Q (ICLR 2026) as reported by notes on the paper.
        scale: upscaling factor.
        bits: bits of weights and activations; 32 for full precision and bicubic.
        dataset: one of `TEST_SETS`.
        psnr: dB.
        ssim: 0 to 1.
        note: what is odd about the value, if anything.
    """

    method: str
    source: str
    scale: int
    bits: int
    dataset: str
    psnr: float
    ssim: float
    note: str


@lru_cache(maxsize=1)
def cells() -> tuple[Cell, ...]:
    """Returns all published results."""
    with open(Path(__file__).with_name('published.csv'), encoding='utf-8', newline='') as file:
        return tuple(
            Cell(
                method=row['method'],
                source=row['source'],
                scale=int(row['scale']),
                bits=int(row['bits']),
                dataset=row['dataset'],
                psnr=float(row['psnr']),
                ssim=float(row['ssim']),
                note=row['note'],
            )
            for row in csv.DictReader(file)
        )


def published_row(method: str, scale: int, bits: int) -> dict[str, Cell]:
    """Returns a row of a published table by data set, in the order of `TEST_SETS`; empty if it was not published."""
    found = {cell.dataset: cell for cell in cells() if (cell.method, cell.scale, cell.bits) == (method, scale, bits)}
    return {name: found[name] for name in TEST_SETS if name in found}
