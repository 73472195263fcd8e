"""Weights of a linear layer that make up for quantization errors: least squares, and rounding with feedback.

A linear layer sees x~, quantized and behind layers that are quantized already, and shall give y, the output of the
full-precision network. With second moments over the calibration data, centred where there is a bias,

    A = E[x~ x~^T],  B = E[(y - W x~) x~^T],  W' = W + B (A + rho mean(diag A) I)^-1,

W' is the least-squares weight, drawn towards W by rho = max(0.01, n / R), the more the fewer rows R there are for the n
inputs. Rounding it to the grid column by column, and moving the columns that are still to come by what the error of one
costs, is GPTQ (arXiv 2210.17323); full-precision targets behind quantized layers are the asymmetric calibration of
GPTAQ (arXiv 2504.02692).
"""

from __future__ import annotations

import torch
from torch import Tensor

from compsrt_basicsr.quant.functional.affine import dequantize, quantize

RIDGE = 0.01  # rho of endless data: 0.003 to 0.1 end within 0.02 dB of each other at 2 bits
DAMPING = 0.01  # of GPTQ, in units of mean(diag A)


def least_squares(weight: Tensor, moment: Tensor, cross: Tensor, rows: int, keep: Tensor | None = None) -> Tensor:
    """W', the weight of least squared error, near W in directions that the data do not show.

    Args:
        weight: W, (O, n).
        moment: A, (n, n), symmetric and positive semidefinite.
        cross: B, (O, n), of the residual y - W x~.
        rows: R, of which these are the means.
        keep: bool mask (O, n) of the coefficients that may differ from 0; W is 0 outside.

    Returns:
        (O, n); W itself where the inputs are all 0.
    """
    size = moment.diagonal().mean()
    if not bool(size > 0):
        return weight
    identity = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    system = moment + max(RIDGE, len(moment) / rows) * size * identity
    if keep is None:
        return weight + torch.linalg.solve(system, cross.T).T
    both = (keep[:, :, None] & keep[:, None, :]).to(moment.dtype)  # a system for each row, the identity where pruned
    systems = system * both + torch.diag_embed((~keep).to(moment.dtype))
    return weight + torch.linalg.solve(systems, torch.where(keep, cross, 0.0)[:, :, None])[:, :, 0]


def round_with_feedback(
    weight: Tensor, moment: Tensor, scale: Tensor, zero: Tensor, levels: int, keep: Tensor | None = None
) -> Tensor:
    """The weight on the grid, each column chosen so that it makes up for the errors of those before it (GPTQ).

    Args:
        weight: W, (O, n).
        moment: A, (n, n).
        scale, zero: step s and zero point Z, one element or (O, 1).
        levels: 2^b.
        keep: bool mask (O, n); pruned coefficients become exactly 0.0.

    Returns:
        Values s q + Z, (O, n), with q in 0 .. levels - 1.
    """
    size = moment.diagonal().mean()
    if not bool(size > 0):
        size = torch.ones_like(size)
    order = torch.argsort(moment.diagonal(), descending=True, stable=True)
    identity = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    damped = (moment + DAMPING * size * identity)[order][:, order]
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    left, rounded = weight[:, order].clone(), torch.empty_like(weight)
    for position, column in enumerate(order):
        values = left[:, position : position + 1]
        chosen = dequantize(quantize(values, scale, zero, levels), scale, zero)
        if keep is not None:
            chosen = torch.where(keep[:, column : column + 1], chosen, 0.0)
        rounded[:, column] = chosen[:, 0]
        error = (values - chosen) / inverse[position, position]
        left[:, position:] -= error * inverse[position, position:]
    return rounded
