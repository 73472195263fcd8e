"""The operands of calls that multiply two tensors: matrix products, linears and convolutions that code calls itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MATMUL = (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm, torch.Tensor.bmm)
_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_LAYER_ARGUMENTS = ('input', 'weight', 'bias')
_BATCH = 'abcdefghijklmnopqrstuvw'  # names of batch dimensions in an equation


@dataclass(frozen=True)
class Operands:
    """The operands of a product, and where it contracts them.

    Attributes:
        left, right: the tensors; of a linear or a convolution the input and the weight.
        left_axis, right_axis: the contracted dimension of each, from the end; of a convolution, which contracts
            several, that of the channels.
        multiply: computes the product of two tensors of these shapes.
        spread: brings sums over the contracted dimension of (0) the left or (1) the right operand, kept as a dimension
            of length 1, to a shape that divides the product; None: sums over one dimension do not divide it.
        order: number of products in each sum.
        bias: what the call adds, of a shape that can be added to the product; None: nothing.
        equation: of the einsum that `multiply` computes; None for a convolution.
    """

    left: Tensor
    right: Tensor
    left_axis: int
    right_axis: int
    multiply: Callable[[Tensor, Tensor], Tensor]
    spread: Callable[[int, Tensor], Tensor] | None
    order: int
    bias: Tensor | None = None
    equation: str | None = None


class ProductMode(TorchFunctionMode):
    """Sees the calls of functions of torch, with `scaled_dot_product_attention` replaced by its two products."""

    @property
    def is_watching(self) -> bool:
        """Whether products are of interest now."""
        return True

    def attend(self, *args: Any, **kwargs: Any) -> Tensor | None:
        """Returns the result of a `scaled_dot_product_attention`; None: compute it by two products."""
        return None

    @abstractmethod
    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns the result of a call."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Hands a call to `call`."""
        if func is F.scaled_dot_product_attention and self.is_watching:
            result = self.attend(*args, **(kwargs or {}))
            if result is not None:
                return result
            with self:
                return explicit_attention(*args, **(kwargs or {}))
        return self.call(func, args, kwargs or {})


def operands_of(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Operands | None:
    """Returns the operands of a call, or None for calls that are no product of two tensors."""
    if function is F.linear or function in _CONVOLUTIONS:
        return _layer_operands(function, args, kwargs)
    if kwargs:
        return None
    if function in _MATMUL and len(args) == 2:
        left, right = args
        if all(isinstance(x, Tensor) and x.ndim > 1 and x.is_floating_point() for x in args):
            return Operands(
                left,
                right,
                -1,
                -2,
                torch.matmul,
                _same,
                left.shape[-1],
                equation=_matmul_equation(left.ndim, right.ndim),
            )
    if function is torch.einsum and args and isinstance(args[0], str):
        return _einsum_operands(args[0].replace(' ', ''), args[1:])
    return None


def _same(side: int, sums: Tensor) -> Tensor:
    return sums


def _matmul_equation(left: int, right: int) -> str:
    """Returns the equation of a matmul of tensors with these numbers of dimensions, at least two."""
    batch = _BATCH[: max(left, right) - 2]
    return f'{batch[len(batch) + 2 - left :]}xz,{batch[len(batch) + 2 - right :]}zy->{batch}xy'


def _layer_operands(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Operands | None:
    given = {**dict(zip(_LAYER_ARGUMENTS, args)), **kwargs}
    x, weight, bias = (given.pop(name, None) for name in _LAYER_ARGUMENTS)
    if not all(isinstance(each, Tensor) and each.ndim > 1 and each.is_floating_point() for each in (x, weight)):
        return None
    if function is F.linear:

        def spread(side: int, sums: Tensor) -> Tensor:
            return sums.squeeze(-1) if side else sums

        batch = _BATCH[: x.ndim - 1]
        equation = f'{batch}z,yz->{batch}y'
        return Operands(x, weight, -1, -1, F.linear, spread, weight.shape[-1], bias, equation)
    rest = args[len(_LAYER_ARGUMENTS) :]

    def convolve(left: Tensor, right: Tensor) -> Tensor:
        return function(left, right, None, *rest, **given)

    bias = bias if bias is None else bias.view(-1, *[1] * (weight.ndim - 2))
    axis = 1 - weight.ndim
    return Operands(x, weight, axis, axis, convolve, None, weight.shape[1:].numel(), bias)


def _einsum_operands(equation: str, tensors: Sequence[Any]) -> Operands | None:
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tensors[0]
    inputs, arrow, result = equation.partition('->')
    names = inputs.split(',')
    plain = arrow and '.' not in equation and all(len(set(name)) == len(name) for name in (*names, result))
    if not plain or len(names) != 2 or len(tensors) != 2:
        return None
    contracted = (set(names[0]) & set(names[1])) - set(result)
    if len(contracted) != 1 or set(names[0] + names[1]) - contracted != set(result):
        return None
    (letter,) = contracted
    axes = [name.index(letter) - len(name) for name in names]

    def spread(side: int, sums: Tensor) -> Tensor:
        kept = names[side].replace(letter, '')
        ordered = sums.squeeze(axes[side]).permute([kept.index(name) for name in result if name in kept])
        return ordered[tuple(slice(None) if name in kept else None for name in result)]

    def multiply(left: Tensor, right: Tensor) -> Tensor:
        return torch.einsum(equation, left, right)

    left, right = tensors
    return Operands(left, right, axes[0], axes[1], multiply, spread, left.shape[axes[0]], equation=equation)


def explicit_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Computes `torch.nn.functional.scaled_dot_product_attention` by its two products."""
    logits = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if attn_mask is not None:
        added = attn_mask.dtype != torch.bool
        logits = logits + attn_mask if added else logits.masked_fill(~attn_mask, -torch.inf)
    return F.dropout(logits.softmax(-1), dropout_p) @ v
