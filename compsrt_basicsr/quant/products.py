"""Quantized operands of products of two activations, such as q k^T and a v, in the attention of any network.

The module that computes a product keeps its code. While its `forward` runs, products of two activations by `@`,
`matmul`, `bmm`, `einsum` and `scaled_dot_product_attention` are intercepted, in the order of the code, and their
operands are quantized. quant/structure.py finds the products of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.quant.factory import act_quantizer
from compsrt_basicsr.quant.transform import Transform

LEAST_SUM = 0.1  # every row of exp(logit - largest logit) contains exp(0) = 1: a smaller sum is a degenerate grid

_MATMUL = (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm, torch.Tensor.bmm)


@dataclass(frozen=True)
class Operands:
    """The operands of a product, and where it contracts them.

    Attributes:
        left, right: the tensors.
        left_axis, right_axis: the contracted dimension of each, from the end.
        multiply: computes the product of two tensors of these shapes.
        spread: brings sums over the contracted dimension of (0) the left or (1) the right operand, kept as a dimension
            of length 1, to a shape that divides the product.
    """

    left: Tensor
    right: Tensor
    left_axis: int
    right_axis: int
    multiply: Callable[[Tensor, Tensor], Tensor]
    spread: Callable[[int, Tensor], Tensor]

    @property
    def order(self) -> int:
        """Length of the contracted dimension."""
        return self.left.shape[self.left_axis]


@dataclass(frozen=True)
class ProductKind:
    """What is known about a product before it is quantized.

    Attributes:
        order: length of the contracted dimension if it is the same for images of any size and both operands have
            values of both signs, so that a transform along it is useful; else None.
        weights: 'left' or 'right' for an operand with values of at least 0 whose sum over the contracted dimension is
            1, as after a softmax; else None.
    """

    order: int | None = None
    weights: str | None = None


def operands_of(function: Any, args: Sequence[Any]) -> Operands | None:
    """Returns the operands of a call, or None for calls that are no product of two tensors over one dimension."""
    if function in _MATMUL and len(args) == 2:
        left, right = args
        if all(isinstance(x, Tensor) and x.ndim > 1 and x.is_floating_point() for x in args):
            return Operands(left, right, -1, -2, torch.matmul, lambda side, sums: sums)
    if function is torch.einsum and args and isinstance(args[0], str):
        return _einsum_operands(args[0].replace(' ', ''), args[1:])
    return None


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

    return Operands(
        tensors[0], tensors[1], axes[0], axes[1], lambda left, right: torch.einsum(equation, left, right), spread
    )


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


class QuantProduct(nn.Module):
    """Quantizes the operands of one product.

    Operands of both signs are transformed along the contracted dimension, where the transform cancels. Weights of a
    softmax, a_j with sum 1, are divided by their largest value, quantized in [0, 1], and the product is divided by the
    sum of the quantized values: so every row uses the whole grid, and its weights still sum to 1.

    Args:
        kind: what is known about the product.
        config: the quantization of the network.
        name: dotted name, for messages.
    """

    def __init__(self, kind: ProductKind, config: QuantConfig, name: str) -> None:
        super().__init__()
        self.kind = kind
        transforms = kind.order is not None and config.attention_transform and config.transform != 'padded'
        self.transform = Transform(config.transform if transforms else 'none', kind.order or 1, config.transform_seed)
        self.left_quantizer, self.right_quantizer = (
            act_quantizer(config, f'{name}.{side}_quantizer', vectors=kind.weights != side)
            for side in ('left', 'right')
        )

    def forward(self, operands: Operands) -> Tensor:
        """Computes the product of the quantized operands."""
        sides = [(operands.left, operands.left_axis), (operands.right, operands.right_axis)]
        divisor: Tensor | None = None
        quantized = []
        for side, (name, quantizer) in enumerate((('left', self.left_quantizer), ('right', self.right_quantizer))):
            x, axis = sides[side]
            if self.kind.weights == name:
                x = quantizer(x / x.amax(axis, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny))
                divisor = operands.spread(side, x.sum(axis, keepdim=True).clamp_min(LEAST_SUM))
            else:
                x = quantizer(self.transform(x.movedim(axis, -1))).movedim(-1, axis)
            quantized.append(x)
        result = operands.multiply(*quantized)
        return result if divisor is None else result / divisor


class _Interception(TorchFunctionMode):
    """Hands products of two activations to their quantized form, in the order of the calls."""

    def __init__(self, products: Iterable[nn.Module], constants: set[int]) -> None:
        super().__init__()
        self._remaining, self._constants = iter(products), constants

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            with self:
                return explicit_attention(*args, **(kwargs or {}))
        operands = None if kwargs else operands_of(func, args)
        if operands is None or any(id(x) in self._constants for x in (operands.left, operands.right)):
            return func(*args, **(kwargs or {}))
        product = next(self._remaining, None)
        if product is None:
            return func(*args)
        with torch._C.DisableTorchFunction():  # not for the interceptions of outer modules
            return product(operands)


class ProductForward:
    """Replacement for the `forward` of a module whose products are quantized."""

    def __init__(self, module: nn.Module) -> None:
        self.module: Any = module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the module's own code with quantized products."""
        constants = constants_of(self.module)
        with _Interception(self.module.quant_products, constants):
            return type(self.module).forward(self.module, *args, **kwargs)


def constants_of(module: nn.Module) -> set[int]:
    """Returns the identities of the parameters and buffers below a module: no activations."""
    return {id(value) for value in (*module.parameters(), *module.buffers())}


def quantize_products_(module: Any, kinds: Sequence[ProductKind], config: QuantConfig, name: str) -> None:
    """Quantizes the products that the code of one module computes, in place.

    Args:
        module: the module; its children keep theirs.
        kinds: its products in the order of its code.
        config: the quantization of the network.
        name: dotted name of the module, for messages.
    """
    module.quant_products = nn.ModuleList(
        QuantProduct(kind, config, f'{name}.quant_products.{index}') for index, kind in enumerate(kinds)
    )
    module.forward = ProductForward(module)
