"""The published values are complete and plausible."""

from collections import Counter
from itertools import product

from compsrt_basicsr.study.published import TEST_SETS, cells, published_row


def test_rows_are_complete_and_at_most_full_precision():
    """Up to rounding, and but for the cells that are marked as odd."""
    for method, scale, bits in product(('CompSRT', '2DQuant', 'CondiQuant'), (2, 3, 4), (4, 3, 2)):
        full, row = published_row('SwinIR-light FP', scale, 32), published_row(method, scale, bits)
        assert tuple(row) == TEST_SETS
        for name, cell in row.items():
            assert cell.psnr <= full[name].psnr + 0.011
            assert cell.ssim <= full[name].ssim + 0.0011 or cell.note
    assert published_row('CompSRT', 5, 4) == {}


def test_no_cell_stands_twice():
    keys = Counter((c.method, c.scale, c.bits, c.dataset) for c in cells())
    assert max(keys.values()) == 1
