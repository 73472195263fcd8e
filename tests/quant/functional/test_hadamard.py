"""Hadamard and conference matrices: the defining identity, the construction of each order, the errors."""

import pytest
import torch

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.functional.finite_field import prime_power, quadratic_character_matrix
from compsrt_basicsr.quant.functional.hadamard import (
    conference_exists,
    conference_matrix,
    hadamard_construction,
    hadamard_matrix,
)

HADAMARD = [n for n in range(1, 257) if hadamard_construction(n)]
CONFERENCE = [n for n in range(2, 129) if conference_exists(n)]


def identity(n):
    return torch.eye(n, dtype=torch.float64)


def test_hadamard_rows_are_orthogonal():
    """Exact: integers far below 2^53."""
    for order in HADAMARD:
        h = hadamard_matrix(order)
        assert h.dtype == torch.float64 and h.shape == (order, order)
        assert torch.equal(h.abs(), torch.ones_like(h))
        assert torch.equal(h @ h.T, order * identity(order)), order


def test_conference_rows_are_orthogonal():
    """Exact, symmetric, zero diagonal, +-1 elsewhere."""
    for order in CONFERENCE:
        c = conference_matrix(order)
        assert torch.equal(c @ c.T, (order - 1) * identity(order)), order
        assert torch.equal(c, c.T)
        assert torch.equal(c.abs(), torch.ones_like(c) - identity(order))


@pytest.mark.parametrize(
    ('orders', 'construction'),
    [
        ((1, 2, 4, 8, 64, 128, 256), 'sylvester'),
        ((12, 20, 24, 28, 44, 48, 60, 68, 80, 180, 360), 'paley1'),  # 11, 19, 23, 27, ... are 3 mod 4
        ((36, 52, 76, 100), 'paley2'),  # 17, 25, 37, 49 are 1 mod 4
        ((40, 56, 88, 96, 120), 'doubling'),
        ((0, -4, 3, 6, 10, 30, 92, 184), None),
    ],
)
def test_construction_of_each_order(orders, construction):
    assert {order: hadamard_construction(order) for order in orders} == dict.fromkeys(orders, construction)


def test_missing_multiples_of_four_up_to_256():
    """The orders that Sylvester, Paley and doubling are known not to cover."""
    missing = [n for n in range(4, 257, 4) if n not in HADAMARD]
    assert missing == [92, 116, 156, 172, 184, 188, 232, 236]


@pytest.mark.parametrize(('order', 'symmetric'), [(64, True), (36, True), (52, True), (12, False), (60, False)])
def test_only_paley1_is_not_symmetric(order, symmetric):
    h = hadamard_matrix(order)
    assert torch.equal(h, h.T) == symmetric


def test_conference_covers_orders_without_hadamard():
    assert all(conference_exists(n) for n in (6, 10, 14, 18, 26, 30, 50))
    assert not any(conference_exists(n) for n in (0, 1, 2, 4, 8, 12, 22, 34, 60))


@pytest.mark.parametrize(
    ('order', 'nearest'),
    [(10, '8 and 12'), (92, '88 and 96'), (0, '1'), (-5, '1'), (3, '2 and 4'), (118, '112 and 120')],
)
def test_missing_hadamard_order_names_the_nearest(order, nearest):
    with pytest.raises(CompSRTError, match=f'order {order} .* {nearest}') as caught:
        hadamard_matrix(order)
    assert ('`conference`' in str(caught.value)) == conference_exists(order)


@pytest.mark.parametrize(('order', 'nearest'), [(12, '10 and 14'), (4, '6'), (22, '18 and 26')])
def test_missing_conference_order_names_the_nearest(order, nearest):
    with pytest.raises(CompSRTError, match=f'order {order}:.* {nearest}\\.'):
        conference_matrix(order)


@pytest.mark.parametrize('q', [3, 5, 7, 9, 13, 25, 27, 49])
def test_quadratic_character(q):
    """Q Q^T = q I - J and Q J = 0 hold for the character of a field, but not for integers mod 9, 25 or 27."""
    m = quadratic_character_matrix(q)
    ones = torch.ones(q, q, dtype=torch.float64)
    assert torch.equal(m @ m.T, q * identity(q) - ones)
    assert not (m @ ones).any()
    assert torch.equal(m.T, m if q % 4 == 1 else -m)
    assert ((m == 1).sum(1) == (q - 1) // 2).all()


def test_prime_powers():
    def by_search(q):
        primes = [p for p in range(2, q + 1) if all(p % d for d in range(2, p))]
        return next(((p, k) for p in primes for k in range(1, 9) if p**k == q), None)

    assert {q: prime_power(q) for q in range(130)} == {q: by_search(q) for q in range(130)}
