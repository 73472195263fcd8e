"""The published figures: complete, plausible, and the odd one marked."""

from collections import Counter

import pytest

from compsrt_basicsr.study.published import TEST_SETS, cells, published_row


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('bits', [4, 3, 2])
@pytest.mark.parametrize('method', ['CompSRT', '2DQuant', 'CondiQuant'])
def test_rows_are_complete_and_below_full_precision(method, scale, bits):
    """At most 0.01 dB above: figures are rounded. SSIM the same, but for cells that are marked."""
    full, row = published_row('SwinIR-light FP', scale, 32), published_row(method, scale, bits)
    assert tuple(row) == TEST_SETS
    for name, cell in row.items():
        assert cell.psnr <= full[name].psnr + 0.011
        assert cell.ssim <= full[name].ssim + 0.0011 or cell.note


def test_no_cell_stands_twice():
    keys = Counter((c.method, c.scale, c.bits, c.dataset) for c in cells())
    assert max(keys.values()) == 1


def test_the_impossible_cell_is_marked():
    assert [(c.method, c.scale, c.bits, c.dataset) for c in cells() if c.note] == [('CompSRT', 2, 2, 'B100')]


def test_known_figures():
    """Table values of CompSRT (arXiv 2601.21069) and 2DQuant (arXiv 2406.06649)."""
    assert [c.psnr for c in published_row('CompSRT', 2, 4).values()] == [38.13, 33.81, 32.28, 32.57, 38.98]
    assert [c.psnr for c in published_row('CompSRT', 4, 2).values()] == [31.44, 28.15, 27.28, 25.38, 29.20]
    assert published_row('SwinIR-light FP', 2, 32)['Set5'].psnr == 38.15
    assert published_row('CompSRT', 5, 4) == {}
