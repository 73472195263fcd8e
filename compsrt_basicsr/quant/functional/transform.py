"""Orthogonal transforms of the last dimension, as cached matrices: x_h = x @ T.

A transform of d coefficients is a matrix T of shape (d, n) with orthonormal rows, T T^T = I. Exact transforms have
n = d, so that (x T)(w T)^T = x w^T and no inverse is ever computed. The published form pads d coefficients with zeros
to n = 2^k (CompSRT, arXiv 2601.21069); `x @ H[:d]` is that transform without the padding.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from compsrt_basicsr.config.quantization import TRANSFORMS
from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.quant.functional.hadamard import (
    conference_exists,
    conference_matrix,
    hadamard_construction,
    hadamard_matrix,
)


def resolve_transform(kind: str, order: int) -> str:
    """Turns 'auto' into the exact transform of an order: Hadamard, else conference, else DCT.

    Raises:
        CompSRTError: unknown kind.
    """
    if kind not in TRANSFORMS:
        raise CompSRTError(
            f'`transform` must be one of {", ".join(TRANSFORMS)}, got {kind!r}.{suggestion(kind, TRANSFORMS)}'
        )
    if kind != 'auto':
        return kind
    if hadamard_construction(order):
        return 'hadamard'
    return 'conference' if conference_exists(order) else 'dct'


@lru_cache(maxsize=256)
def transform_matrix(
    kind: str,
    order: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = 'cpu',
) -> Tensor:
    """Matrix of an orthogonal transform, computed in float64, cached per argument tuple.

    Args:
        kind: 'hadamard', 'conference', 'padded' (zero-padded Sylvester), 'dct' (DCT-II), 'random' (Haar-distributed
            orthogonal), 'none' (identity) or 'auto' (see `resolve_transform`).
        order: d, the number of coefficients, at least 1.
        seed: seed of 'random'; other kinds ignore it.
        dtype: floating dtype of the result.
        device: device of the result.

    Returns:
        (order, n): n = order, but for 'padded', where n is the next power of two. Rows are orthonormal. Shared: do not
        write to it.

    Raises:
        CompSRTError: unknown kind, order below 1, or an order that the kind does not have.
    """
    if order < 1:
        raise CompSRTError(f'The order of a transform must be at least 1, got {order}.')
    if (dtype, torch.device(device)) != (torch.float64, torch.device('cpu')):
        return transform_matrix(kind, order, seed).to(device=device, dtype=dtype)
    kind = resolve_transform(kind, order)
    if kind == 'hadamard':
        return hadamard_matrix(order) / math.sqrt(order)
    if kind == 'conference':
        return conference_matrix(order) / math.sqrt(order - 1)
    if kind == 'padded':
        n = 1 << (order - 1).bit_length()
        return (hadamard_matrix(n) / math.sqrt(n))[:order].clone()
    if kind == 'dct':
        return _dct_matrix(order)
    if kind == 'random':
        return _random_orthogonal(order, seed)
    return torch.eye(order, dtype=torch.float64)


def _dct_matrix(order: int) -> Tensor:
    """Orthonormal DCT-II basis: column k holds sqrt(2/n) cos(pi (i + 1/2) k / n), column 0 sqrt(1/n)."""
    i = torch.arange(order, dtype=torch.float64)[:, None]
    k = torch.arange(order, dtype=torch.float64)[None, :]
    basis = torch.cos(math.pi * (i + 0.5) * k / order) * math.sqrt(2.0 / order)
    basis[:, 0] = math.sqrt(1.0 / order)
    return basis


def _random_orthogonal(order: int, seed: int) -> Tensor:
    """Haar-distributed orthogonal matrix: QR of a seeded Gaussian, signs of R's diagonal moved into Q."""
    gaussian = torch.randn(order, order, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    q, r = torch.linalg.qr(gaussian)
    return q * torch.sign(torch.diagonal(r))
