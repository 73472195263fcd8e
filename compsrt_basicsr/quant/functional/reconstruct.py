"""Weights of a linear layer that compensate for quantization errors: least squares, then rounding with feedback.

The layer receives x~, which is quantized and comes from quantized layers. Its target y is the output of the
full-precision network. With second moments over the calibration data, centred if the layer has a bias,

    A = E[x~ x~^T],  B = E[(y - W x~) x~^T],  W' = W + B (A + rho mean(diag A) I)^-1,

W' is the least-squares weight, regularized towards W by rho = max(0.01, n / R) for n inputs and R rows of data.
`round_with_feedback` then rounds W' to the grid column by column and corrects the remaining columns for each rounding
error, as GPTQ does (arXiv 2210.17323). Full-precision targets for layers behind quantized ones are the asymmetric
calibration of GPTAQ (arXiv 2504.02692).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor

from compsrt_basicsr.kernels.loaded import at, in_threads, kernels, passed
from compsrt_basicsr.quant.functional.affine import dequantize, quantize
from compsrt_basicsr.quant.functional.positive_definite import check_finite, cholesky, solve

RIDGE = 0.01  # rho for unlimited data; at 2 bits, values from 0.003 to 0.1 differ by at most 0.02 dB
TOGETHER = 2048  # rows whose products are summed in the inputs' own precision, before float64
WIDE = 256  # inputs of a fit that is worth two products in place of one
DAMPING = 0.01  # GPTQ's damping, in units of mean(diag A)


def least_squares(weight: Tensor, moment: Tensor, cross: Tensor, rows: int, keep: Tensor | None = None) -> Tensor:
    """Computes W', the regularized least-squares weight. In directions without data, W' stays near W.

    Args:
        weight: W, (O, n).
        moment: A, (n, n), symmetric and positive semidefinite.
        cross: B, (O, n), of the residual y - W x~.
        rows: R, the number of rows that A and B are means of.
        keep: bool mask (O, n) of the coefficients that may differ from 0; W is 0 elsewhere.

    Returns:
        W', (O, n); W itself if all inputs are 0.

    Raises:
        torch.linalg.LinAlgError: if a tensor is not finite.
    """
    check_finite(second_moments_are=moment, the_weight_is=weight)
    size = moment.diagonal().mean()
    if not bool(size > 0):
        return weight
    identity = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    system = moment + max(RIDGE, len(moment) / rows) * size * identity
    if keep is None:
        return weight + solve(system, cross.T).T.to(weight.dtype)
    both = (keep[:, :, None] & keep[:, None, :]).to(moment.dtype)  # one system per row; the identity where pruned
    systems = system * both + torch.diag_embed((~keep).to(moment.dtype))
    return weight + solve(systems, torch.where(keep, cross, 0.0)[:, :, None])[:, :, 0].to(weight.dtype)


def round_with_feedback(
    weight: Tensor, moment: Tensor, scale: Tensor, zero: Tensor, levels: int, keep: Tensor | None = None
) -> Tensor:
    """Rounds a weight to the grid; each column compensates for the rounding errors of the columns before it (GPTQ).

    Args:
        weight: W, (O, n).
        moment: A, (n, n).
        scale, zero: step s and zero point Z, one element or (O, 1).
        levels: 2^b.
        keep: bool mask (O, n); pruned coefficients become exactly 0.0.

    Returns:
        Values s q + Z, (O, n), with q from 0 to levels - 1.

    Raises:
        torch.linalg.LinAlgError: if a tensor is not finite.
    """
    check_finite(second_moments_are=moment, the_weight_is=weight)
    size = moment.diagonal().mean()
    if not bool(size > 0):
        size = torch.ones_like(size)
    order = torch.argsort(moment.diagonal(), descending=True, stable=True)
    identity = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    damped = (moment + DAMPING * size * identity)[order][:, order]
    inverse = cholesky(torch.cholesky_inverse(cholesky(damped)), upper=True).to(weight.dtype)
    left, keep = weight[:, order].contiguous(), keep if keep is None else keep[:, order].contiguous()
    rounded = torch.empty_like(left)
    if left.dtype == torch.float64 and left.device.type == 'cpu' and feedback_is_right():
        _round_in_kernel(left, inverse, scale, zero, levels, keep, rounded)
    else:
        _round_in_torch(left, inverse, scale, zero, levels, keep, rounded)
    return torch.empty_like(rounded).index_copy_(1, order, rounded)


@lru_cache(maxsize=1)
def feedback_is_right() -> bool:
    """Self-test: compares the kernel with torch; warns and returns False if it is wrong.

    Without kernels it returns False too.
    """
    if kernels() is None:
        return False
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.no_grad(), torch.device('cpu'):
        left, inverse = (torch.randn(n, 21, generator=generator, dtype=torch.float64) for n in (9, 21))
        inverse = inverse.triu() + 5 * torch.eye(21, dtype=torch.float64)
        scale, zero, keep = left[:, :1].abs() + 0.2, left[:, 1:2], left > -1
        results = [torch.empty_like(left) for _ in range(2)]
        for function, rounded in zip((_round_in_kernel, _round_in_torch), results):
            function(left.clone(), inverse, scale, zero, 8, keep, rounded)
    right = bool((results[0] - results[1]).abs().max() <= 1e-9)
    return passed(right, 'Rounding with feedback')


def _round_in_torch(
    left: Tensor, inverse: Tensor, scale: Tensor, zero: Tensor, levels: int, keep: Tensor | None, rounded: Tensor
) -> None:
    """Rounds the columns of `left` (O, n) into `rounded`, one after the other."""
    for position in range(len(inverse)):
        values = left[:, position : position + 1]
        chosen = dequantize(quantize(values, scale, zero, levels), scale, zero)
        if keep is not None:
            chosen = torch.where(keep[:, position : position + 1], chosen, 0.0)
        rounded[:, position] = chosen[:, 0]
        error = torch.sub(values, chosen).div_(inverse[position, position])[:, 0]
        left[:, position:].addr_(error, inverse[position, position:], alpha=-1)


def _round_in_kernel(
    left: Tensor, inverse: Tensor, scale: Tensor, zero: Tensor, levels: int, keep: Tensor | None, rounded: Tensor
) -> None:
    """Computes `_round_in_torch` of float64 tensors in the C++ kernel."""
    count, n = left.shape
    inverse, *grids = (x.double().contiguous() for x in (inverse, scale.expand(count, 1), zero.expand(count, 1)))
    arguments = *map(at, (left, inverse, *grids, keep)), n, levels - 1, at(rounded)
    library = kernels()
    assert library is not None
    in_threads(lambda begin, end: library.cs_feedback(*arguments, begin, end), count, 64)


class Fit:
    """Least-squares fit of a linear map from inputs x~ (R, n) to targets y (R, O), centred if it has a bias.

    Args:
        rows: chunks of inputs (r, n) and targets (r, O), read one at a time.
        with_bias: whether the map has a bias.

    Attributes:
        moment: A, (n, n) float64.
    """

    def __init__(self, rows: Iterable[tuple[Tensor, Tensor]], with_bias: bool) -> None:
        self._rows = 0
        for x, y in rows:
            if not self._rows:
                size, wide = (y.shape[1], x.shape[1]), torch.float64
                half = size[1] if size[1] < WIDE else size[1] // 2  # moments are symmetric: a quarter is copied below
                moment, cross = x.new_zeros(size[1], size[1], dtype=wide), x.new_zeros(size, dtype=wide)
                origin_x, origin_y = (t.mean(0) if with_bias else torch.zeros_like(t[0]) for t in (x, y))
                sum_x, sum_y = torch.zeros_like(origin_x, dtype=wide), torch.zeros_like(origin_y, dtype=wide)
            x, y = x - origin_x, y - origin_y  # near the mean, so that little cancels below
            for few_x, few_y in zip(x.split(TOGETHER), y.split(TOGETHER)):
                moment[:half] += few_x[:, :half].T @ few_x
                moment[half:, half:] += few_x[:, half:].T @ few_x[:, half:]
                cross += few_y.T @ few_x
            sum_x += x.sum(0)
            sum_y += y.sum(0)
            self._rows += len(x)
        moment[half:, :half] = moment[:half, half:].T
        mean_x, mean_y = (t / self._rows if with_bias else torch.zeros_like(t) for t in (sum_x, sum_y))
        self.moment = moment / self._rows - torch.outer(mean_x, mean_x)
        self._cross = cross / self._rows - torch.outer(mean_y, mean_x)  # E[y x~^T]
        self._mean_x, self._mean_y = origin_x + mean_x, origin_y + mean_y

    def weight(self, start: Tensor, keep: Tensor | None = None) -> Tensor:
        """Computes the least-squares weight near `start`, (O, n)."""
        fitted = least_squares(start, self.moment, self._cross - start @ self.moment, self._rows, keep)
        check_finite(the_fitted_weight_is=fitted.float())
        return fitted

    def bias(self, weight: Tensor) -> Tensor:
        """Computes the bias for a weight, (O,)."""
        fitted = self._mean_y - weight @ self._mean_x
        check_finite(the_fitted_bias_is=fitted.float())
        return fitted
