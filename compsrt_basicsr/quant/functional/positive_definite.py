"""Linear systems with second moments: checked, and solved by Cholesky factors in float64.

LAPACK may hang or print an error of its own for matrices that are not finite, and LU factors of batches hang in some
builds with several threads. Cholesky factors need half the work, too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

_RIDGES = (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)  # in units of the mean of the diagonal


def check_finite(**tensors: Tensor) -> None:
    """Compares tensors, by what they are, with the numbers that LAPACK takes.

    Raises:
        torch.linalg.LinAlgError: if one has NaN or infinity.
    """
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise LinAlgError(f'{name.replace("_", " ")} not finite')


def cholesky(matrix: Tensor, upper: bool = False) -> Tensor:
    """Computes a Cholesky factor in float64: L with A = L L^T, or the upper one, L^T.

    If rounding has made the matrix indefinite, the smallest ridge out of `_RIDGES` that repairs it is added.

    Args:
        matrix: (..., n, n), symmetric.

    Returns:
        (..., n, n) float64.

    Raises:
        torch.linalg.LinAlgError: if the matrix is not finite, or not positive definite by more than rounding.
    """
    check_finite(second_moments_are=matrix)
    matrix = matrix.double()
    mean = matrix.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
    for ridge in _RIDGES:
        damped = matrix + torch.diag_embed((ridge * mean).expand(matrix.shape[:-1]))
        factor, info = torch.linalg.cholesky_ex(damped, upper=upper)
        if not bool(info.any()):
            return factor
    raise LinAlgError('second moments are not positive definite')


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Solves A X = B for a positive definite A.

    Args:
        matrix: A, (..., n, n), symmetric.
        right: B, (..., n, k).

    Returns:
        X, (..., n, k) float64.

    Raises:
        torch.linalg.LinAlgError: see `cholesky`; or B is not finite.
    """
    check_finite(targets_are=right)
    return torch.cholesky_solve(right.double(), cholesky(matrix))
