"""Hadamard matrices (entries +-1, H H^T = n I) and conference matrices (zero diagonal, C C^T = (n - 1) I)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.functional.finite_field import prime_power, quadratic_character_matrix

_PAIR = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)


def _residue(q: int) -> int | None:
    """Returns q mod 4 for an odd prime power q, else None."""
    return q % 4 if q > 2 and q % 2 and prime_power(q) else None


def hadamard_construction(order: int) -> str | None:
    """Names the construction for an order: 'sylvester', 'paley1', 'paley2' or 'doubling'; None if there is none."""
    if order < 1:
        return None
    if order & (order - 1) == 0:
        return 'sylvester'
    if order % 4:
        return None
    if _residue(order - 1) == 3:
        return 'paley1'
    if _residue(order // 2 - 1) == 1:
        return 'paley2'
    return 'doubling' if hadamard_construction(order // 2) else None


@lru_cache(maxsize=64)
def hadamard_matrix(order: int) -> Tensor:
    """Builds a Hadamard matrix by Sylvester (1867), Paley I and II (1933) or doubling.

    Args:
        order: 1, 2, or a multiple of 4 for which one of the constructions exists.

    Returns:
        (order, order) float64, entries +-1, H H^T = order * I. Symmetric for Sylvester and Paley II, not for Paley I.

    Raises:
        CompSRTError: if there is no construction for this order. The message names the nearest usable orders.
    """
    construction = hadamard_construction(order)
    if construction is None:
        raise CompSRTError(
            f'No Hadamard matrix of order {order} by Sylvester, Paley or doubling: '
            f'the nearest usable orders are {_nearest(order, lambda n: hadamard_construction(n) is not None)}'
            f'{", or use the transform `conference`" if conference_exists(order) else ""}.'
        )
    if construction == 'sylvester':
        h = torch.ones(1, 1, dtype=torch.float64)
        while len(h) < order:
            h = torch.kron(_PAIR, h)
        return h
    if construction == 'paley1':
        return torch.eye(order, dtype=torch.float64) + _bordered(order - 1, sign=-1.0)
    if construction == 'paley2':
        corner = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
        half = order // 2
        return torch.kron(_bordered(half - 1, sign=1.0), _PAIR) + torch.kron(
            torch.eye(half, dtype=torch.float64), corner
        )
    return torch.kron(_PAIR, hadamard_matrix(order // 2))


def conference_exists(order: int) -> bool:
    """Returns whether Paley's symmetric construction applies: order - 1 is a prime power and 1 mod 4."""
    return _residue(order - 1) == 1


@lru_cache(maxsize=64)
def conference_matrix(order: int) -> Tensor:
    """Builds Paley's symmetric conference matrix (1933): zero diagonal, +-1 elsewhere, C C^T = (order - 1) I.

    It exists for some orders that have no Hadamard matrix (6, 10, 14, 18, 26, 30, ...).

    Returns:
        (order, order) float64.

    Raises:
        CompSRTError: if order - 1 is not a prime power that is 1 mod 4. The message names the nearest usable orders.
    """
    if not conference_exists(order):
        raise CompSRTError(
            f'No symmetric Paley conference matrix of order {order}: '
            f'the nearest usable orders are {_nearest(order, conference_exists)}.'
        )
    return _bordered(order - 1, sign=1.0)


def _bordered(q: int, sign: float) -> Tensor:
    """Adds a border to the Jacobsthal matrix of GF(q): first row 1, first column `sign`, corner 0."""
    m = torch.zeros(q + 1, q + 1, dtype=torch.float64)
    m[0, 1:] = 1.0
    m[1:, 0] = sign
    m[1:, 1:] = quadratic_character_matrix(q)
    return m


def _nearest(order: int, usable: Callable[[int], bool]) -> str:
    """Names the nearest usable orders below and above."""
    below = next((n for n in range(order - 1, 0, -1) if usable(n)), None)
    above = next(n for n in range(max(order, 0) + 1, 2 * max(order, 4) + 1) if usable(n))
    return f'{below} and {above}' if below else f'{above}'
