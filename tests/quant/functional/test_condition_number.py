"""Preconditioned weights: lower condition number, bounded change of the output, proximal step as the minimum."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compsrt_basicsr.quant.functional.condition_number import condition_number, reduce_condition, shrink_spread


def problem(rows, columns, seed, decay=3.0):
    """A weight with singular values over several decades, and tokens whose energy differs by direction."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    weight = (left * torch.logspace(0, -decay, min(rows, columns), dtype=torch.float64)) @ right
    tokens = torch.randn(500, columns, generator=generator, dtype=torch.float64)
    tokens = tokens @ torch.diag(torch.logspace(0, -1, columns, dtype=torch.float64))
    return weight, tokens


def spread(matrix):
    values = torch.linalg.svdvals(matrix)
    return (values - values.mean()).square().sum()


def objective(value, weight, moment, factor):
    gram = moment / torch.linalg.matrix_norm(moment, 2)
    change = value - weight
    return float(0.5 * torch.trace(change @ gram @ change.T) + factor / 2 * spread(value))


@settings(max_examples=25)
@given(st.integers(2, 9), st.integers(2, 9), st.floats(0.001, 10), st.integers(0, 99))
def test_the_closed_form_is_the_minimum(rows, columns, factor, seed):
    """No nearby matrix has a smaller objective; in float64."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(rows, columns, generator=generator, dtype=torch.float64)

    def cost(v):
        return float(0.5 * (v - y).square().sum() + factor / 2 * spread(v))

    best = shrink_spread(y, factor)
    for size in (1e-3, 1e-1):
        other = best + size * torch.randn(rows, columns, generator=generator, dtype=torch.float64)
        assert cost(best) <= cost(other) + 1e-12
    assert cost(best) <= cost(y) + 1e-12


@pytest.mark.parametrize(('rows', 'columns'), [(12, 12), (24, 12), (12, 24)])
@pytest.mark.parametrize('factor', [0.001, 0.01, 0.1])
def test_condition_falls_and_the_output_keeps_to_its_bound(rows, columns, factor):
    weight, tokens = problem(rows, columns, 0)
    moment = tokens.T @ tokens / len(tokens)
    changed = reduce_condition(weight, moment, factor, 50)
    assert condition_number(changed) < 0.5 * condition_number(weight)
    error = ((tokens @ (changed - weight).T).square().sum(1)).mean()
    bound = factor * torch.linalg.matrix_norm(moment, 2) * spread(weight)
    assert 0 < error <= bound


def test_every_step_descends():
    weight, tokens = problem(10, 10, 1)
    moment = tokens.T @ tokens
    values = [objective(reduce_condition(weight, moment, 0.05, n), weight, moment, 0.05) for n in range(1, 20)]
    assert all(later <= earlier + 1e-15 for earlier, later in pairwise(values))
    assert values[-1] < objective(weight, weight, moment, 0.05)


def test_scale_does_not_matter():
    """Twice the weight gives twice the result; a larger input gives the same."""
    weight, tokens = problem(8, 8, 2)
    moment = tokens.T @ tokens
    one = reduce_condition(weight, moment, 0.01, 10)
    torch.testing.assert_close(reduce_condition(2 * weight, 100 * moment, 0.01, 10), 2 * one)


def test_no_input_and_no_weight_of_the_spread_change_nothing():
    weight, tokens = problem(6, 6, 3)
    assert reduce_condition(weight, torch.zeros(6, 6), 0.1, 5) is weight
    same = reduce_condition(weight, tokens.T @ tokens, 0.0, 5)
    torch.testing.assert_close(same, weight, rtol=0, atol=1e-12)
