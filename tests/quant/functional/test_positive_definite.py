"""Checked Cholesky factors and solutions, against NumPy."""

import numpy as np
import pytest
import torch

from compsrt_basicsr.quant.functional.condition_number import reduce_condition
from compsrt_basicsr.quant.functional.positive_definite import cholesky, solve
from compsrt_basicsr.quant.functional.reconstruct import least_squares, round_with_feedback

EYE = torch.eye(3, dtype=torch.float64)


def moments(n, rows, seed=0):
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.T @ x / rows


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize('n', [1, 5, 170])
def test_batches_in_two_threads(n, two_threads):
    """n = 170: LU factors of such a batch fail or hang in oneMKL."""
    systems = torch.stack([moments(n, n + 200, seed) for seed in range(20)])
    right = torch.ones(20, n, 2, dtype=torch.float64)
    np.testing.assert_allclose(solve(systems, right), np.linalg.solve(systems.numpy(), right.numpy()), rtol=1e-8)


def test_pruned_rows_of_a_wide_layer_in_two_threads(two_threads):
    moment = moments(170, 400)
    keep = torch.rand(24, 170, generator=torch.Generator().manual_seed(1)) > 0.4
    cross = torch.where(keep, 1.0, 0.0).double()
    fitted = least_squares(torch.zeros_like(cross), moment, cross, 400, keep)
    ridge = 170 / 400 * moment.diagonal().mean() * torch.eye(170, dtype=torch.float64)
    for row, mask, b in zip(fitted.numpy(), keep.numpy(), cross.numpy()):
        expected = np.linalg.solve((moment + ridge).numpy()[np.ix_(mask, mask)], b[mask])
        np.testing.assert_allclose(row[mask], expected, rtol=1e-8)


def test_upper_and_lower_factors():
    moment = moments(6, 50)
    torch.testing.assert_close(cholesky(moment) @ cholesky(moment).T, moment)
    torch.testing.assert_close(cholesky(moment, upper=True), cholesky(moment).T)


def test_rounding_errors_are_repaired_by_the_smallest_ridge():
    """Singular, and indefinite by 1e-11; a matrix that is really indefinite is refused."""
    factor = cholesky(torch.diag(torch.tensor([1.0, 1.0, -1e-11], dtype=torch.float64)))
    torch.testing.assert_close(factor @ factor.T, EYE * torch.tensor([1.0, 1.0, 0.0]), rtol=0, atol=1e-9)
    with pytest.raises(torch.linalg.LinAlgError, match='not positive definite'):
        cholesky(torch.diag(torch.tensor([1.0, 1.0, -0.01])))


@pytest.mark.parametrize('factor', [1e-300, 1e-60, 1e60, 1e300])
def test_extreme_scales_are_solved(factor):
    moment, right = moments(4, 30), torch.ones(4, 1, dtype=torch.float64)
    torch.testing.assert_close(solve(factor * moment, factor * right), solve(moment, right))


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
@pytest.mark.parametrize('where', ['moment', 'cross', 'weight'])
def test_what_is_not_finite_is_an_error(bad, where):
    tensors = {name: EYE.clone() for name in ('moment', 'cross', 'weight')}
    tensors[where][1, 1] = bad
    keep = torch.tensor([[True, False, True]] * 3)
    for mask in (None, keep | (where == 'cross')):
        with pytest.raises(torch.linalg.LinAlgError, match='not finite'):
            least_squares(tensors['weight'], tensors['moment'], tensors['cross'], 100, mask)
    if where != 'cross':
        with pytest.raises(torch.linalg.LinAlgError, match='not finite'):
            round_with_feedback(tensors['weight'], tensors['moment'], EYE[0, 0], EYE[0, 1], 4)
        with pytest.raises(torch.linalg.LinAlgError, match='not finite'):
            reduce_condition(tensors['weight'], tensors['moment'], 0.1, 2)
