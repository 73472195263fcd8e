"""Affine quantization: codes, exactly representable values, and the gradients against float64 closed forms.

The references are written from the equations in the docstrings, element by element, and share no code with them.
"""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compsrt_basicsr.quant.functional.affine import dequantize, fake_quantize, fake_quantize_paper, quantize

BITS = range(2, 9)
EXTREME = st.floats(width=32, allow_nan=False)
VALUES = st.lists(EXTREME, min_size=1, max_size=20)


def scalar(value, dtype=torch.float32):
    return torch.tensor(value, dtype=dtype)


@given(
    VALUES, st.floats(2.0**-100, 2.0**100, width=32), st.floats(-(2.0**100), 2.0**100, width=32), st.sampled_from(BITS)
)
def test_codes_stay_in_range(values, scale, zero, bits):
    """Integers in [0, 2^b - 1] for any values, step and zero point."""
    codes = quantize(scalar(values), scalar(scale), scalar(zero), 2**bits)
    assert ((codes >= 0) & (codes <= 2**bits - 1) & (codes == codes.round())).all()


@given(st.integers(0, 10**6), st.floats(1e-6, 1e6), st.floats(-1e4, 1e4), st.sampled_from(BITS))
def test_quantization_is_idempotent(seed, scale, steps, bits):
    """Idempotence: the codes of s q + Z are q, with Z up to 1e4 steps from 0, where float32 still resolves a step."""
    s, z = scalar(scale), scalar(scale * steps)
    x = z + s * torch.empty(50).uniform_(-5, 2**bits + 5, generator=torch.Generator().manual_seed(seed))
    codes = quantize(x, s, z, 2**bits)
    once = dequantize(codes, s, z)
    assert torch.equal(quantize(once, s, z, 2**bits), codes)
    assert torch.equal(fake_quantize(once, s, z, 2**bits), once)


@given(st.integers(-20, 20), st.integers(-50, 50), st.sampled_from(BITS))
def test_representable_values_survive(exponent, zero, bits):
    """All 2^b values s q + Z are preserved exactly, for s a power of two and Z a multiple of it."""
    s = scalar(2.0**exponent)
    values = s * (torch.arange(2**bits) + zero)
    assert torch.equal(fake_quantize(values, s, s * zero, 2**bits), values)
    assert torch.equal(quantize(values, s, s * zero, 2**bits), torch.arange(2.0**bits))


@given(st.integers(0, 10**6), st.sampled_from(BITS), st.booleans())
def test_fake_quantization_is_dequantized_codes(seed, bits, per_channel):
    """Bit-identical: there is one formula."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 6, generator=generator) * 3
    shape = (4, 1) if per_channel else ()
    s = torch.rand(shape, generator=generator) + 0.01
    z = torch.randn(shape, generator=generator)
    assert torch.equal(fake_quantize(x, s, z, 2**bits), dequantize(quantize(x, s, z, 2**bits), s, z))


def test_inputs_are_not_modified():
    x, s, z = torch.randn(9), scalar(0.3), scalar(-1.0)
    copies = x.clone(), s.clone(), z.clone()
    codes = quantize(x, s, z, 4)
    kept = codes.clone()
    dequantize(codes, s, z)
    fake_quantize(x, s, z, 4)
    fake_quantize_paper(x, z, -z, s, z)
    assert all(torch.equal(a, b) for a, b in zip((x, s, z, codes), (*copies, kept)))


def test_unclamped_codes_leave_the_range():
    codes = quantize(scalar([-10.0, 0.2, 10.0]), scalar(1.0), scalar(0.0), None)
    assert codes.tolist() == [-10.0, 0.0, 10.0]


def strict_reference(x, scale, zero, levels, grad):
    """Value, and gradients of x, s, Z of one element, from the table in `fake_quantize`."""
    v, n = (x - zero) / scale, levels - 1
    if v <= 0:
        return zero, 0.0, 0.0, grad
    if v >= n:
        return scale * n + zero, 0.0, grad * n, grad
    return scale * round(v) + zero, grad, grad * (round(v) - v), 0.0


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(BITS), st.sampled_from(['tensor', 'channel']))
def test_strict_gradients(seed, bits, granularity):
    """Gradients of x, s and Z equal the closed form; 1e-10: float64 sums of 40 terms of size up to 255."""
    generator = torch.Generator().manual_seed(seed)
    shape = () if granularity == 'tensor' else (4, 1)
    s = (torch.rand(shape, generator=generator, dtype=torch.float64) * 0.5 + 0.1).requires_grad_()
    z = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    spread = torch.empty(4, 10, dtype=torch.float64).uniform_(-1, 2**bits, generator=generator)
    x = (s * spread + z).detach().requires_grad_()
    grad = torch.randn(4, 10, generator=generator, dtype=torch.float64)
    y = fake_quantize(x, s, z, 2**bits)
    y.backward(grad)

    rows = [
        [
            strict_reference(*(float(t.detach().expand(4, 10)[i, j]) for t in (x, s, z)), 2**bits, float(grad[i, j]))
            for j in range(10)
        ]
        for i in range(4)
    ]
    value, grad_x, grad_s, grad_z = torch.tensor(rows, dtype=torch.float64).unbind(-1)
    close = {'rtol': 1e-10, 'atol': 1e-10}
    assert torch.allclose(y, value, **close)
    assert torch.allclose(x.grad, grad_x, **close)
    assert torch.allclose(s.grad, grad_s.sum_to_size(shape), **close)
    assert torch.allclose(z.grad, grad_z.sum_to_size(shape), **close)


def test_strict_gradient_on_the_bounds_and_beyond():
    """v = 0 and v = n count as clipped; infinities give finite gradients."""
    x = torch.tensor([0.0, 3.0, -float('inf'), float('inf'), 1.4], requires_grad=True)
    s, z = torch.ones((), requires_grad=True), torch.zeros((), requires_grad=True)
    fake_quantize(x, s, z, 4).backward(torch.tensor([1.0, 10.0, 100.0, 1000.0, 1e4]))
    assert x.grad.tolist() == [0, 0, 0, 0, 1e4]
    assert z.grad == 1111
    assert torch.isclose(s.grad, scalar(3 * 1010 - 0.4e4))  # 3 (10 + 1000) + (1 - 1.4) 1e4


def test_frozen_grid_still_passes_the_gradient_of_x():
    x = torch.tensor([-1.0, 0.4, 9.0], requires_grad=True)
    fake_quantize(x, scalar(1.0), scalar(0.0), 4).sum().backward()
    assert x.grad.tolist() == [0, 1, 0]


def test_gradients_of_a_strided_input_and_gradient():
    """Transposes arrive from attention: memory order must not matter."""
    x = torch.randn(6, 5, dtype=torch.float64)
    grad = torch.randn(5, 6, dtype=torch.float64)
    results = []
    for given_x, given_grad in ((x.T, grad), (x.T.contiguous(), grad.T.contiguous().T)):
        leaf = given_x.detach().requires_grad_()
        s, z = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.4, -1.0))
        fake_quantize(leaf, s, z, 4).backward(given_grad)
        results.append((leaf.grad, s.grad, z.grad))
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(*results))


def paper_reference(x, lower, upper, scale, zero, grad):
    """Value and gradients of x, l, u, s of one element of the published formula."""
    clipped = min(max(x, lower), upper)
    code = round((clipped - zero) / scale)
    inside = lower <= x <= upper
    return (
        scale * code + zero,
        grad if inside else 0.0,
        grad if x < lower else 0.0,
        grad if x > upper else 0.0,
        grad * (code - (clipped - zero) / scale),
    )


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(['tensor', 'channel']), st.sampled_from([1.0, -1.0]))
def test_paper_formula_and_gradients(seed, granularity, sign):
    """Value and gradients equal the published formula, negative steps included; Z gets exactly 0."""
    generator = torch.Generator().manual_seed(seed)
    shape = () if granularity == 'tensor' else (4, 1)

    def parameter(low, high):
        values = torch.empty(shape, dtype=torch.float64).uniform_(low, high, generator=generator)
        return values.requires_grad_()

    lower, upper, zero = parameter(-2, -1), parameter(1, 2), parameter(-2.5, -0.5)
    scale = (sign * parameter(0.05, 0.6).detach()).requires_grad_()
    x = (torch.randn(4, 10, generator=generator, dtype=torch.float64) * 2).requires_grad_()
    grad = torch.randn(4, 10, generator=generator, dtype=torch.float64)
    y = fake_quantize_paper(x, lower, upper, scale, zero)
    y.backward(grad)

    rows = [
        [
            paper_reference(
                *(float(t.detach().expand(4, 10)[i, j]) for t in (x, lower, upper, scale, zero)), float(grad[i, j])
            )
            for j in range(10)
        ]
        for i in range(4)
    ]
    value, grad_x, *grads = torch.tensor(rows, dtype=torch.float64).unbind(-1)
    close = {'rtol': 1e-10, 'atol': 1e-10}  # float64 sums of 40 terms of size 1
    assert torch.allclose(y, value, **close)
    assert torch.allclose(x.grad, grad_x, **close)
    for parameter, expected in zip((lower, upper, scale), grads):
        assert torch.allclose(parameter.grad, expected.sum_to_size(shape), **close)
    assert not zero.grad.any()


def test_paper_codes_are_not_clamped():
    """With a small step, the published formula gives more than 2^b values."""
    x = torch.linspace(-1, 1, 201)
    y = fake_quantize_paper(x, scalar(-1.0), scalar(1.0), scalar(0.05), scalar(-1.0))
    assert len(y.unique()) == 41
