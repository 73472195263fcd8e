"""Least-squares weights and rounding with feedback, against their definitions."""

import pytest
import torch
from conftest import forget_kernels
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.quant.functional import reconstruct
from compsrt_basicsr.quant.functional.affine import dequantize, quantize
from compsrt_basicsr.quant.functional.reconstruct import RIDGE, least_squares, round_with_feedback

ROWS = 200


def moments(inputs, outputs, weight):
    return inputs.T @ inputs / len(inputs), (outputs - inputs @ weight.T).T @ inputs / len(inputs)


def data(seed, rows=ROWS, columns=6, outputs=4):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    inputs = torch.randn(rows, columns, generator=generator, dtype=torch.float64) @ mix
    weight = torch.randn(outputs, columns, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, outputs, generator=generator, dtype=torch.float64)
    return inputs, inputs @ (weight + 0.3).T + 0.1 * noise, weight


def ridge_rows(inputs, outputs, weight):
    """The same minimum as ordinary least squares over rows that stand for the ridge."""
    moment, _ = moments(inputs, outputs, weight)
    ridge = max(RIDGE, len(moment) / len(inputs))
    strength = (ridge * moment.diagonal().mean() * len(inputs)).sqrt()
    return (
        torch.cat([inputs, strength * torch.eye(inputs.shape[1], dtype=inputs.dtype)]),
        torch.cat([outputs, strength * weight.T]),
    )


@given(st.integers(0, 1000))
def test_minimizes_squared_error_and_ridge(seed):
    inputs, outputs, weight = data(seed)
    fitted = least_squares(weight, *moments(inputs, outputs, weight), ROWS)
    more_inputs, more_outputs = ridge_rows(inputs, outputs, weight)
    torch.testing.assert_close(fitted, torch.linalg.lstsq(more_inputs, more_outputs).solution.T)


@given(st.integers(0, 1000))
def test_pruned_coefficients_stay_zero_and_each_row_is_the_minimum_over_the_others(seed):
    inputs, outputs, weight = data(seed)
    keep = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) > 0.4
    weight = torch.where(keep, weight, 0.0)
    fitted = least_squares(weight, *moments(inputs, outputs, weight), ROWS, keep)
    more_inputs, more_outputs = ridge_rows(inputs, outputs, weight)
    for row, mask, y in zip(fitted, keep, more_outputs.T):
        assert (row[~mask] == 0).all()
        torch.testing.assert_close(row[mask], torch.linalg.lstsq(more_inputs[:, mask], y[:, None]).solution[:, 0])


def test_directions_without_data_keep_their_weight():
    inputs, outputs, weight = data(0)
    inputs[:, 0] = 0
    fitted = least_squares(weight, *moments(inputs, outputs, weight), ROWS)
    torch.testing.assert_close(fitted[:, 0], weight[:, 0])
    assert not torch.allclose(fitted[:, 1:], weight[:, 1:], atol=0.1)
    nothing = torch.zeros_like(inputs)
    assert torch.equal(least_squares(weight, *moments(nothing, outputs, weight), ROWS), weight)


GRID = torch.tensor(0.7, dtype=torch.float64), torch.tensor(-1.05, dtype=torch.float64), 4


def nearest(weight):
    return dequantize(quantize(weight, *GRID), *GRID[:2])


def cost(change, moment):
    return float((change @ moment * change).sum())


@given(st.integers(0, 1000), st.booleans())
def test_rounded_weights_are_on_the_grid_and_pruned_ones_are_zero(seed, pruned):
    inputs, outputs, weight = data(seed)
    moment, _ = moments(inputs, outputs, weight)
    keep = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) > 0.4 if pruned else None
    rounded = round_with_feedback(weight, moment, *GRID, keep)
    on_grid = rounded if keep is None else rounded[keep]
    torch.testing.assert_close(on_grid, nearest(on_grid), rtol=0, atol=1e-12)
    assert keep is None or bool((rounded[~keep] == 0).all())


def test_without_correlation_rounds_to_the_nearest():
    _, _, weight = data(1)
    moment = torch.diag(torch.tensor([3.0, 1.0, 0.5, 4.0, 2.0, 0.1], dtype=torch.float64))
    assert torch.equal(round_with_feedback(weight, moment, *GRID), nearest(weight))
    assert torch.equal(round_with_feedback(weight, torch.zeros_like(moment), *GRID), nearest(weight))


@pytest.mark.parametrize('pruned', [False, True])
def test_the_kernel_rounds_as_torch_does(pruned, kernel_home, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 40, generator=generator, dtype=torch.float64)
    weight, moment = torch.randn(90, 40, generator=generator, dtype=torch.float64), x.T @ x / 300
    scale, zero = torch.rand(90, 1, dtype=torch.float64) + 0.2, -torch.rand(90, 1, dtype=torch.float64)
    keep = torch.rand(90, 40, generator=generator) < 0.6 if pruned else None
    in_kernel = round_with_feedback(weight, moment, scale, zero, 8, keep)
    monkeypatch.setattr(reconstruct, 'feedback_is_right', lambda: False)
    torch.testing.assert_close(in_kernel, round_with_feedback(weight, moment, scale, zero, 8, keep), rtol=0, atol=1e-9)


def test_a_wrong_kernel_is_not_used(kernel_home, monkeypatch, caplog):
    right = reconstruct._round_in_kernel

    def wrong(*given):
        right(*given)
        given[-1].mul_(1.001)

    monkeypatch.setattr(reconstruct, '_round_in_kernel', wrong)
    forget_kernels()
    weight, moment = torch.rand(3, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    rounded = round_with_feedback(weight, moment, *(torch.tensor(x, dtype=torch.float64) for x in (0.5, 0.0)), 8)
    assert set(rounded.unique().tolist()) <= {0.0, 0.5, 1.0}
    assert 'feedback' in caplog.text
    monkeypatch.undo()
    forget_kernels()
    assert reconstruct.feedback_is_right()


def test_with_correlation_the_output_changes_less_than_by_rounding_to_the_nearest():
    gains = []
    for seed in range(20):
        inputs, outputs, weight = data(seed)
        moment, _ = moments(inputs, outputs, weight)
        rounded = round_with_feedback(weight, moment, *GRID)
        gains.append(cost(nearest(weight) - weight, moment) / cost(rounded - weight, moment))
    assert sum(gains) / len(gains) > 1.2 and sum(g > 1 for g in gains) >= 15


def test_rows_may_have_their_own_grids():
    inputs, outputs, weight = data(2)
    moment, _ = moments(inputs, outputs, weight)
    scale = torch.tensor([[0.3], [0.5], [0.7], [0.9]], dtype=torch.float64)
    zero = -1.5 * scale
    together = round_with_feedback(weight, moment, scale, zero, 4)
    alone = [round_with_feedback(w[None], moment, s, z, 4)[0] for w, s, z in zip(weight, scale, zero)]
    torch.testing.assert_close(together, torch.stack(alone))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    inputs, outputs, weight = (x.to(dtype) for x in data(3))
    moment, cross = moments(inputs, outputs, weight)
    assert least_squares(weight, moment, cross, ROWS).dtype == dtype
    assert round_with_feedback(weight, moment, *(x.to(dtype) for x in GRID[:2]), 4).dtype == dtype
