"""Reduction of a weight's condition number by proximal gradient descent, with nearly the same layer output.

The idea is that of CondiQuant (arXiv 2502.15478), whose code is not published; the equations here are our own. For a
weight W (O, d) and inputs x with second moment A = E[x x^T], scaled to norm 1, minimize

    F(V) = 1/2 tr((V - W) A (V - W)^T) + lambda/2 sum_i (sigma_i(V) - mean sigma(V))^2.

The first term is half the mean squared change of the output, divided by |A|. The second is the spread of the singular
values, which is 0 for a condition number of 1. Both are quadratic in the weight, so lambda has no unit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compsrt_basicsr.quant.functional.positive_definite import check_finite


def reduce_condition(weight: Tensor, moment: Tensor, weight_of_spread: float, steps: int) -> Tensor:
    """Minimizes F by proximal gradient descent from W: V <- prox(V - (V - W) A), with step size 1 over the norm of A.

    F never increases, so the mean squared change of the output stays below lambda |A| sum_i (sigma_i(W) - mean)^2.

    Args:
        weight: W, (O, d).
        moment: A, (d, d), symmetric, any scale.
        weight_of_spread: lambda, at least 0.
        steps: gradient steps, at least 1.

    Returns:
        V, (O, d), with the dtype of W; W itself if A is 0.

    Raises:
        torch.linalg.LinAlgError: if W or A is not finite, or a singular value decomposition does not converge.
    """
    check_finite(second_moments_are=moment, the_weight_is=weight)
    start, gram = weight.double(), moment.double()
    norm = torch.linalg.matrix_norm(gram, 2)
    if not bool(norm > 0):
        return weight
    gram = gram / norm
    value = start
    for _ in range(steps):
        value = shrink_spread(value - (value - start) @ gram, weight_of_spread)
    return value.to(weight.dtype)


def shrink_spread(matrix: Tensor, weight: float) -> Tensor:
    """Computes the proximal step in closed form: argmin_V 1/2 |V - Y|^2 + w/2 sum_i (sigma_i(V) - mean sigma(V))^2.

    V has the singular vectors of Y (von Neumann's trace inequality). The singular values keep their mean m:
    sigma_i(V) = m + (sigma_i(Y) - m) / (1 + w).

    Args:
        matrix: Y, (O, d).
        weight: w, at least 0.

    Returns:
        V, (O, d).
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    mean = values.mean()
    return (left * (mean + (values - mean) / (1 + weight))) @ right


def condition_number(matrix: Tensor) -> float:
    """Returns the largest singular value over the smallest; infinity if the smallest is 0."""
    values = torch.linalg.svdvals(matrix.detach().double())
    return float(values[0] / values[-1])
