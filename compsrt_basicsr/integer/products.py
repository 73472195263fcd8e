"""Executors for products of two activations: one product on codes, or a whole attention by its two products."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.integer.cpp_kernels import Side, kernel_is_right
from compsrt_basicsr.integer.execution import Executor, act_side, executes, on_cpu
from compsrt_basicsr.kernels.loaded import in_threads, kernels
from compsrt_basicsr.quant.operands import Operands
from compsrt_basicsr.quant.products import QuantProduct
from compsrt_basicsr.quant.quantizer import Quantizer

_BLOCK = 12  # columns that the kernels work on together, or half of it: BLOCK of kernels/sources/strip.h
LONGEST_SUM = 2**31 // (255 * 128)  # products of two bytes whose sum fits 32 bits


@dataclass(frozen=True)
class Matrices:
    """The operands of a product as matrices of two batch dimensions.

    Attributes:
        left: (A, B, M, K).
        right: (A, B, N, K).
        restore: brings the product (A, B, M, N) to the shape that the code expects.
    """

    left: Tensor
    right: Tensor
    restore: Callable[[Tensor], Tensor]


def matrices_of(equation: str, left: Tensor, right: Tensor) -> Matrices | None:
    """Returns the operands of an einsum as matrices, or None if one is broadcast along a common dimension.

    Args:
        equation: of two operands, with one contracted dimension.
        left, right: the operands.
    """
    inputs, result = equation.split('->')
    names = inputs.split(',')
    sizes = dict(zip(names[1], right.shape))
    if any(sizes.get(name, size) != size for name, size in zip(names[0], left.shape)):
        return None
    sizes.update(zip(names[0], left.shape))
    contracted = next(name for name in names[0] if name not in result)
    batch = [name for name in result if name in names[0] and name in names[1]]
    free = [[name for name in result if name in own and name not in batch] for own in names]
    shaped = [
        x.permute([own.index(name) for name in (*batch, *kept, contracted)]).reshape(
            *_two([sizes[name] for name in batch]), -1 if kept else 1, sizes[contracted]
        )
        for x, own, kept in zip((left, right), names, free)
    ]
    order = [*batch, *free[0], *free[1]]

    def restore(product: Tensor) -> Tensor:
        return product.view([sizes[name] for name in order]).permute([order.index(name) for name in result])

    return Matrices(shaped[0], shaped[1], restore)


def _two(sizes: list[int]) -> tuple[int, int]:
    """Splits batch dimensions into two; only the last one stays by itself, since heads lie before windows in memory."""
    count = 1
    for size in sizes[:-1]:
        count *= size
    return count, sizes[-1] if sizes else 1


def _strides(x: Tensor) -> list[int]:
    return [x.stride(0), x.stride(1), x.stride(2)]


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def multiply(left: Tensor, right: Tensor, weights: bool, sides: tuple[Side, Side]) -> Tensor:
    """Multiplies matrices of activations on their codes. Call only after `kernel_is_right`.

    Args:
        left: (A, B, M, K) float32.
        right: (A, B, N, K) float32.
        weights: whether the rows of `left` are divided by their largest value, and the product by their sum.
        sides: of both operands.

    Returns:
        (A, B, M, N), dense.
    """
    library: Any = kernels()
    by_columns = right.stride(-1) != 1 and right.stride(-2) == 1
    left, right = _rows(left), right.transpose(-2, -1) if by_columns else _rows(right)
    outer, inner, rows, order = left.shape
    columns = right.shape[-1] if by_columns else right.shape[-2]
    out = torch.empty(outer, inner, rows, columns)
    strides = [(ctypes.c_int64 * 3)(*_strides(x)) for x in (left, right)]
    table = torch.tensor(sides, dtype=torch.float32)
    arguments = (
        *(left.data_ptr(), strides[0], right.data_ptr(), strides[1], rows, columns, order, by_columns, weights),
        *(table.data_ptr(), inner, out.data_ptr()),
    )
    in_threads(lambda begin, end: library.cs_products_run(*arguments, begin, end), outer * inner, 1)
    return out


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, sides: list[Side]) -> Tensor:
    """Computes softmax(scale q k^T + mask) v on codes. Call only after `kernel_is_right`.

    Args:
        q: (A, B, M, K) float32.
        k: (A, B, N, K) float32.
        v: (A, B, N, D) float32.
        mask: (A, B, M, N) float32, or None.
        scale: factor of the logits.
        sides: of q, k, the weights and v.

    Returns:
        (A, B, M, D).
    """
    library: Any = kernels()
    q, k, v = _rows(q), _rows(k), _rows(v)
    mask = mask if mask is None else _rows(mask)
    (outer, inner, rows, order), (keys, size) = q.shape, v.shape[-2:]
    out = torch.empty(outer, rows, inner, size).transpose(1, 2)
    given = (q, k, v, out if mask is None else mask, out)
    strides = (ctypes.c_int64 * 15)(*[stride for x in given for stride in _strides(x)])
    table = torch.tensor(sides, dtype=torch.float32)
    arguments = (
        *(q.data_ptr(), k.data_ptr(), v.data_ptr(), None if mask is None else mask.data_ptr(), strides),
        *(rows, keys, order, size, scale, table.data_ptr(), inner, out.data_ptr()),
    )
    in_threads(lambda begin, end: library.cs_softmax_run(*arguments, begin, end), outer * inner, 1)
    return out


@executes(QuantProduct)
class ProductExecutor(Executor):
    """Runs a product on codes in the kernels, and by fake quantization where they cannot."""

    takes_vectors = True

    @classmethod
    def obstacle(cls, module: Any) -> str | None:
        if module.kind.joint:
            return 'convolutions have no integer kernel'
        if not all(isinstance(quantizer, Quantizer) for quantizer in _quantizers(module)):
            return 'only one operand is quantized'
        if obstacle := super().obstacle(module):
            return obstacle
        return None if kernels() is not None and on_cpu(module) else 'products run on codes in the kernels only'

    @classmethod
    def how(cls, module: Any) -> str:
        return 'kernel'

    def _applies(self, *inputs: Tensor, modules: list[nn.Module] | None = None) -> bool:
        on_cpu = all(x.is_cpu for x in inputs)  # the network may have been moved since
        return on_cpu and super()._applies(*inputs, modules=modules)

    def prepare(self) -> list[Side]:
        return [act_side(side) for side in _quantizers(self.module)]

    def __call__(self, operands: Operands) -> Tensor:  # type: ignore[override]
        """Computes the product of the quantized operands."""
        if self._applies(operands.left, operands.right):
            with torch.no_grad(), torch.autocast('cpu', enabled=False):
                result = self._multiply(operands)
            if result is not None:
                return result
        return type(self.module).forward(self.module, operands)

    def _multiply(self, operands: Operands) -> Tensor | None:
        if operands.equation is None:
            return None
        kind, transform = self.module.kind, self.module.transform
        left, right = operands.left.float(), operands.right.float()
        if transform.matrix is not None:
            left, right = (
                transform(x.movedim(axis, -1)).movedim(-1, axis)
                for x, axis in ((left, operands.left_axis), (right, operands.right_axis))
            )
        matrices = matrices_of(operands.equation, left, right)
        if matrices is None:
            return None
        left, right, sides = matrices.left, matrices.right, self._current()
        if not _fits(left.shape[-1], right.shape[-2]):
            return None
        if kind.weights == 'right':
            result = multiply(right, left, True, (sides[1], sides[0])).transpose(-2, -1).contiguous()
        else:
            result = multiply(left, right, kind.weights == 'left', (sides[0], sides[1]))
        return matrices.restore(result)

    def attend(
        self,
        second: nn.Module,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Tensor | None:
        """Computes `scaled_dot_product_attention` on codes, or returns None if the kernels cannot.

        Args:
            second: the quantized product of the weights and `v`; this one is that of `q` and `k`.
            q, k, v, attn_mask, dropout_p, is_causal, scale: as in torch.
        """
        other = second.forward
        if not isinstance(other, ProductExecutor) or dropout_p or is_causal or self.module.kind.weights is not None:
            return None
        if q.ndim != 4 or q.shape[:2] != k.shape[:2] or k.shape[:3] != v.shape[:3] or q.shape[3] != k.shape[3]:
            return None
        given = (q, k, v) if attn_mask is None else (q, k, v, attn_mask)
        if (attn_mask is not None and attn_mask.dtype != torch.float32) or other.module.kind.weights != 'left':
            return None
        keys, order, size = k.shape[2], k.shape[3], v.shape[3]
        applies = self._applies(*given) and other._applies(*given)
        if not (applies and _fits(order, keys) and _fits(keys, size)):
            return None
        with torch.no_grad(), torch.autocast('cpu', enabled=False):
            mask = None if attn_mask is None else attn_mask.expand(*q.shape[:3], keys)
            sides = [*self._current(), *other._current()]
            q, k = (self.module.transform(x.float()) for x in (q, k))
            return attention(q, k, v.float(), mask, order**-0.5 if scale is None else scale, sides)


def _quantizers(product: Any) -> tuple[Any, Any]:
    return product.left_quantizer, product.right_quantizer


def _fits(order: int, columns: int) -> bool:
    """Returns whether the kernels multiply matrices of this size; beyond 128, columns differ by whole blocks only."""
    if not 0 < order <= LONGEST_SUM or order * columns >= 2**31:
        return False
    return kernel_is_right(order, columns if columns <= 128 else 10 * _BLOCK + columns % _BLOCK)
