"""Grids leave and enter quantizers without a rounding."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing.grids import code_of_zero, possible_levels, read_grid, set_grid
from compsrt_basicsr.quant.quantizer import Quantizer

STEPS = st.floats(2.0**-26, 2.0**20, width=32)
ZEROS = st.floats(-(2.0**20), 2.0**20, width=32)


@given(st.integers(2, 8), st.lists(st.tuples(STEPS, ZEROS), min_size=1, max_size=5))
def test_strict_grids_are_exact(bits, pairs):
    """Any step beside any zero point, and a step that the floor of `Quantizer.grid` leaves alone."""
    rows = torch.tensor(pairs).T.contiguous()
    quantizer = Quantizer(bits, channels=len(pairs) if len(pairs) > 1 else None)
    set_grid(quantizer, rows)
    assert quantizer.is_calibrated
    assert torch.equal(read_grid(quantizer), rows)
    assert bool((quantizer.unit <= rows[0].view(quantizer.unit.shape)).all())


@given(st.lists(st.floats(-1024, 1024, width=32), min_size=4, max_size=4))
def test_paper_grids_are_exact(numbers):
    rows = torch.tensor(numbers)[:, None]
    rows[:2] = rows[:2].sort(0)[0]
    quantizer = Quantizer(4, 'paper')
    set_grid(quantizer, rows)
    assert torch.equal(read_grid(quantizer), rows)


@pytest.mark.parametrize(
    ('code_range', 'rows'),
    [
        ('strict', [[0.0], [1.0]]),
        ('strict', [[-1.0], [1.0]]),
        ('strict', [[float('nan')], [1.0]]),
        ('strict', [[1.0], [float('inf')]]),
        ('strict', [[1e-38], [1e38]]),
        ('paper', [[1.0], [0.0], [0.0], [0.0]]),
        ('paper', [[0.0], [float('nan')], [0.0], [0.0]]),
    ],
)
def test_numbers_that_are_no_grid(code_range, rows):
    with pytest.raises(CompSRTError, match='grid of quantizer `x` is not usable'):
        set_grid(Quantizer(4, code_range, name='x'), torch.tensor(rows))


def test_uncalibrated_quantizers_have_no_grid():
    with pytest.raises(CompSRTError, match='`x` is not calibrated'):
        read_grid(Quantizer(4, name='x'))


def test_paper_levels_are_bounded_by_the_clipping():
    quantizer = Quantizer(2, 'paper')
    set_grid(quantizer, torch.tensor([[-1.0], [2.0], [0.0], [0.0]]))
    assert possible_levels(quantizer) == 4
    set_grid(quantizer, torch.tensor([[-1.0], [2.0], [-0.9], [0.0]]))
    seen = quantizer.codes(torch.linspace(-5, 5, 10_001)).unique()
    assert possible_levels(quantizer) == len(seen) == 31


def test_code_of_zero():
    quantizer = Quantizer(4)
    set_grid(quantizer, torch.tensor([[0.5], [-3.5]]))
    assert code_of_zero(quantizer).tolist() == [[7]]
