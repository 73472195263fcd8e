"""Quadratic residues in finite fields GF(p^k), from which Paley's matrices are built."""

from __future__ import annotations

import itertools
from functools import lru_cache

import torch
from torch import Tensor

Polynomial = tuple[int, ...]  # coefficients, lowest degree first


def prime_power(q: int) -> tuple[int, int] | None:
    """Returns (p, k) with q = p^k and p prime; None if q is not a prime power."""
    if q < 2:
        return None
    p = next((d for d in range(2, int(q**0.5) + 1) if q % d == 0), q)
    k = 0
    while q % p == 0:
        q //= p
        k += 1
    return (p, k) if q == 1 else None


@lru_cache(maxsize=64)
def quadratic_character_matrix(q: int) -> Tensor:
    """Builds the Jacobsthal matrix Q[i, j] = chi(a_i - a_j) over GF(q), for an odd prime power q (Paley 1933).

    chi(0) = 0, chi(a) = 1 for a non-zero square, -1 otherwise.

    Returns:
        (q, q) float64 with entries in {-1, 0, 1}.
    """
    p, k = prime_power(q)  # type: ignore[misc]
    modulus = _irreducible(p, k)
    elements = list(itertools.product(range(p), repeat=k))
    squares = {_multiply(a, a, modulus, p) for a in elements} - {elements[0]}
    character = {a: (1.0 if a in squares else -1.0) for a in elements}
    character[elements[0]] = 0.0
    rows = [[character[tuple((x - y) % p for x, y in zip(a, b))] for b in elements] for a in elements]
    return torch.tensor(rows, dtype=torch.float64)


def _multiply(a: Polynomial, b: Polynomial, modulus: Polynomial, p: int) -> Polynomial:
    """Multiplies two field elements: polynomials of degree < k, modulo a monic polynomial of degree k."""
    k = len(modulus) - 1
    product = [0] * (2 * k - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[i + j] = (product[i + j] + x * y) % p
    return _remainder(product, modulus, p)


def _remainder(dividend: list[int], divisor: Polynomial, p: int) -> Polynomial:
    """Divides by a monic polynomial over GF(p); returns the remainder as len(divisor) - 1 coefficients."""
    rest = list(dividend)
    degree = len(divisor) - 1
    for top in range(len(rest) - 1, degree - 1, -1):
        lead = rest[top]
        for i in range(degree + 1):
            rest[top - degree + i] = (rest[top - degree + i] - lead * divisor[i]) % p
    return tuple(rest[:degree])


def _irreducible(p: int, k: int) -> Polynomial:
    """Finds a monic polynomial of degree k over GF(p) that no monic polynomial of degree 1 to k // 2 divides."""
    for low in itertools.product(range(p), repeat=k):
        candidate = (*low, 1)
        divisors = ((*d, 1) for degree in range(1, k // 2 + 1) for d in itertools.product(range(p), repeat=degree))
        if all(any(_remainder(list(candidate), d, p)) for d in divisors):
            return candidate
    raise AssertionError(f'GF({p}^{k}) must have an irreducible polynomial.')  # one exists for every p and k
