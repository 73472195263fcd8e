"""Products of quantized operands, computed on their integer codes.

With activation codes q_a on the grid (s_a, Z_a) and weight codes q_w on (s_w, Z_w), contracted over k = 1 to K:

    sum (s_a q_a + Z_a)(s_w q_w + Z_w) = s_a s_w sum q_a q_w  +  s_a Z_w sum q_a  +  Z_a s_w sum q_w  +  K Z_a Z_w

The first term is an integer product, the second needs one sum per row, the others are constant per column. Weight codes
are centred (q_w - 2^(b-1), with Z_w shifted to match), so 8 bits fit a signed byte and the terms stay small.

Where each row of activations has a grid of its own, s_a and Z_a are factored out:

    s_a (s_w sum q_a q_w  +  Z_w sum q_a)  +  Z_a (s_w sum q_w  +  K Z_w)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from compsrt_basicsr.utils.log import logger
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

_RANGES = ((255, 128), (15, 8), (255, 8), (15, 128), (255, 64))  # of the self-test: largest code, magnitude of weights
EXACT_FLOAT32 = 2**24  # float32 represents all integers up to here exactly


@dataclass(frozen=True)
class FoldedProduct:
    """A linear layer on codes.

    With the integer product P and the row sums R of the activation codes, y = P a + R b + c on one grid for all
    activations, and y = s (P a + R b) + Z c + bias where each row has its own grid (s, Z).

    Attributes:
        codes: centred weight codes, (N, K) int8.
        a, b, c: (N,) float32.
        bias: (N,) float32 if each row has its own grid, else None.
    """

    codes: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    bias: Tensor | None = None

    def apply(self, codes: Tensor, scale: Tensor | None = None, zero: Tensor | None = None) -> Tensor:
        """Maps activation codes to outputs.

        Args:
            codes: (..., K), integer-valued floats.
            scale, zero: the grid of each row, (..., 1); None: one grid for all, which is part of the layer.

        Returns:
            (..., N).
        """
        product, sums = integer_product(codes, self.codes) * self.a, codes.sum(-1, keepdim=True)
        if self.bias is None or scale is None or zero is None:
            return product + (sums * self.b + self.c)
        return scale * (product + sums * self.b) + (zero * self.c + self.bias)


def fold_product(
    codes: Tensor,
    bits: int,
    weight_grid: tuple[Tensor, Tensor],
    act_grid: tuple[Tensor, Tensor] | None,
    bias: Tensor | None = None,
) -> FoldedProduct:
    """Folds the grids and the bias of a linear layer into a few numbers per output, computed in float64.

    Args:
        codes: weight codes 0 to 2^bits - 1, (N, K).
        bits: b of the weight.
        weight_grid: s_w and Z_w, one element or (N, 1) each.
        act_grid: s_a and Z_a, one element each; None: each row of activations has its own.
        bias: (N,) or None.
    """
    middle = 2 ** (bits - 1)
    centred = (codes - middle).to(torch.int8)
    size = codes.shape[0]
    scale_w, zero_w = (g.detach().double().reshape(-1).expand(size) for g in weight_grid)
    zero_w = zero_w + scale_w * middle
    constant = scale_w * centred.double().sum(1) + codes.shape[1] * zero_w
    added = torch.zeros_like(constant) if bias is None else bias.detach().double()
    if act_grid is None:
        terms = [scale_w, zero_w, constant, added]
    else:
        scale_a, zero_a = (g.detach().double().reshape(()) for g in act_grid)
        terms = [scale_a * scale_w, scale_a * zero_w, zero_a * constant + added]
    return FoldedProduct(centred, *(term.float().contiguous() for term in terms))


def integer_product(a: Tensor, w: Tensor) -> Tensor:
    """Computes the exact product a w^T of codes.

    Uses torch's int8 product for plain matrix products on the CPU if it has passed the self-test on this machine. Uses
    float32 or float64 otherwise, whichever holds all sums exactly.

    Args:
        a: (..., K), integer-valued floats 0 to 255.
        w: (N, K) or (..., N, K) integers of any dtype, -128 to 127.

    Returns:
        (..., N) float32: exact up to 2^24, larger sums are rounded once.
    """
    k = a.shape[-1]
    if w.ndim == 2 and w.dtype == torch.int8 and a.device.type == 'cpu' and int8_product_is_right(k, len(w)):
        return int8_product(a.reshape(-1, k), w).view(*a.shape[:-1], len(w)).float()
    dtype = torch.float32 if k * 255 * 128 < EXACT_FLOAT32 else torch.float64
    with torch.autocast(a.device.type, enabled=False):
        product = F.linear(a.to(dtype), w.to(dtype)) if w.ndim == 2 else a.to(dtype) @ w.to(dtype).transpose(-2, -1)
    return product.float()


def int8_product(a: Tensor, w: Tensor) -> Tensor:
    """Multiplies codes (M, K), 0 to 255, by (N, K) int8 with torch's product of signed bytes; returns (M, N) int32."""
    signed = (a - 128).to(torch.int8)
    return torch._int_mm(signed, w.T) + 128 * w.sum(1, dtype=torch.int32)


@lru_cache(maxsize=256)
def int8_product_is_right(k: int, n: int) -> bool:
    """Self-test: compares `int8_product` with exact arithmetic at this size and warns if it is wrong."""
    try:
        right = is_exact(int8_product, k, n)
    except (RuntimeError, AttributeError, NotImplementedError) as error:  # this torch has no int8 product on the CPU
        if is_out_of_memory(error):
            raise
        return False
    if not right:
        logger.warning(f"torch's int8 product ({k} by {n}) is wrong on this machine: codes are multiplied as floats.")
    return right


def is_exact(product: Callable[[Tensor, Tensor], Tensor], k: int, n: int) -> bool:
    """Returns whether a product of codes (M, k) and weights (n, k) equals exact integer arithmetic."""
    return all(torch.equal(product(a, w).long(), a.long() @ w.long().T) for a, w in self_test_operands(k, n))


def self_test_operands(k: int, n: int) -> list[tuple[Tensor, Tensor]]:
    """Makes pairs of codes (M, k), float, and weights (n, k), int8: random values, and extremes that could overflow.

    Narrow operands are among them, because kernels add up as many products in 16 bits as their range allows.
    """
    generator = torch.Generator().manual_seed(k * 10_007 + n)
    pairs = []
    for top, half in _RANGES:
        codes = torch.randint(0, top + 1, (19, k), generator=generator).float()
        pairs.append((codes, torch.randint(-half, half, (n, k), generator=generator).to(torch.int8)))
        for w in (-half, half - 1):
            pairs.append((torch.full((17, k), float(top)), torch.full((n, k), w, dtype=torch.int8)))
    return [*pairs, (torch.zeros(17, k), pairs[1][1])]
