"""Squared errors of many grids from running sums, against the quantized values themselves."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.quant.functional.affine import dequantize, quantize
from compsrt_basicsr.quant.functional.grid_error import squared_errors

SEEDS = st.integers(0, 2**31)


def direct(values, counts, scale, zero, levels):
    """The definition: every value on every grid."""
    values, counts, scale, zero = (x.double() for x in (values[..., None, :], counts[..., None, :], scale, zero))
    return ((dequantize(quantize(values, scale, zero, levels), scale, zero) - values).square() * counts).sum(-1)


@given(
    SEEDS,
    st.sampled_from([(), (1,), (3,), (2, 2)]),
    st.integers(1, 400),
    st.sampled_from([2, 4, 16, 256]),
    st.sampled_from([1e-6, 1.0, 1e6]),
    st.sampled_from([0.0, -3.0, 1e3]),
)
def test_errors_are_those_of_the_quantized_values(seed, shape, size, levels, spread, offset):
    generator = torch.Generator().manual_seed(seed)
    values = spread * (offset + torch.randn(*shape, size, generator=generator))
    counts = torch.randint(0, 9, values.shape, generator=generator).float()
    scale = spread * (0.01 + torch.rand(*shape, 7, 1, generator=generator)) / levels
    zero = spread * (offset + torch.randn(*shape, 7, 1, generator=generator))
    expected = direct(values, counts, scale, zero, levels)
    found = squared_errors(values, counts, scale, zero, levels)
    assert found.shape == (*shape, 7)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-10 * spread**2 * size)


def test_values_between_two_codes_and_at_the_ends_of_the_grid():
    values, counts = torch.tensor([0.5, 1.5, -1.0, 4.0, 2.0, 2.0]), torch.ones(6)
    grids = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [1.0]])
    expected = direct(values, counts, *grids, 4)
    assert expected.tolist() == [0.25 + 0.25 + 1 + 1, 0.25 + 0.25 + 4 + 1 + 1 + 1]
    assert squared_errors(values, counts, *grids, 4).tolist() == expected.tolist()
