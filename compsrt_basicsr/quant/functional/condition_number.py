"""Weights of lower condition number with nearly the same output, by proximal gradient descent.

The idea is CondiQuant's (arXiv 2502.15478), of which no code was published; these equations are our own. A weight W
(O, d) whose inputs x have the second moment A = E[x x^T], scaled to norm 1, is replaced by a minimum of

    F(V) = 1/2 tr((V - W) A (V - W)^T) + lambda/2 sum_i (sigma_i(V) - mean sigma(V))^2,

half the mean squared change of the output over |A|, and the spread of the singular values, which is 0 for a condition
number of 1. Both are quadratic in the weight, so that lambda has no unit.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reduce_condition(weight: Tensor, moment: Tensor, weight_of_spread: float, steps: int) -> Tensor:
    """Proximal gradient descent on F from W: V <- prox(V - (V - W) A), the step being 1 over the norm of A.

    F never rises, so that the mean squared change of the output stays below lambda |A| sum (sigma_i - mean)^2 of W.

    Args:
        weight: W, (O, d).
        moment: A, (d, d), symmetric, any scale.
        weight_of_spread: lambda, at least 0.
        steps: gradient steps, at least 1.

    Returns:
        (O, d), of W's dtype; W itself where it saw no input.
    """
    start, gram = weight.double(), moment.double()
    norm = torch.linalg.matrix_norm(gram, 2)
    if not bool(torch.isfinite(norm) & (norm > 0)):
        return weight
    gram = gram / norm
    value = start
    for _ in range(steps):
        value = shrink_spread(value - (value - start) @ gram, weight_of_spread)
    return value.to(weight.dtype)


def shrink_spread(matrix: Tensor, weight: float) -> Tensor:
    """The proximal step, in closed form: argmin_V 1/2 |V - Y|^2 + w/2 sum (sigma_i(V) - mean sigma(V))^2.

    V has Y's singular vectors (von Neumann's trace inequality). Its singular values keep their mean m, and
    sigma_i(V) = m + (sigma_i(Y) - m) / (1 + w).

    Args:
        matrix: Y, (O, d).
        weight: w, at least 0.
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    mean = values.mean()
    return (left * (mean + (values - mean) / (1 + weight))) @ right


def condition_number(matrix: Tensor) -> float:
    """Largest over smallest singular value; infinite where the smallest is 0."""
    values = torch.linalg.svdvals(matrix.detach().double())
    return float(values[0] / values[-1])
