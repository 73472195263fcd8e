"""Quantized operands of products that the code of a module computes itself, such as q k^T and a v in attention.

The module keeps its code. While its `forward` runs, products by `@`, `matmul`, `bmm`, `einsum`,
`scaled_dot_product_attention`, and by the functions of linears and convolutions with a weight that the code computes,
are intercepted, in the order of the code, and their operands are quantized. quant/structure.py finds the products of a
network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.factory import act_quantizer, weight_quantizer
from compsrt_basicsr.quant.functional.peaks import divide_by_peak
from compsrt_basicsr.quant.layers import QuantizedLayer
from compsrt_basicsr.quant.operands import Operands as Operands
from compsrt_basicsr.quant.operands import ProductMode, operands_of
from compsrt_basicsr.quant.transform import Transform

LEAST_SUM = 0.1  # every row of exp(logit - largest logit) contains exp(0) = 1: a smaller sum is a degenerate grid


@dataclass(frozen=True)
class ProductKind:
    """What is known about a product before it is quantized.

    Attributes:
        order: length of the contracted dimension if it is the same for images of any size and both operands have
            values of both signs, so that a transform along it is useful; else None.
        weights: 'left' or 'right' for an operand with values of at least 0 whose sum over the contracted dimension is
            1, as after a softmax; else None.
        constant: 'left' or 'right' for an operand that is a parameter or a buffer; None for two activations.
        joint: whether several dimensions are contracted together, as by a convolution.
    """

    order: int | None = None
    weights: str | None = None
    constant: str | None = None
    joint: bool = False


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
            _quantizer(kind, side, config, f'{name}.{side}_quantizer') for side in ('left', 'right')
        )

    def forward(self, operands: Operands) -> Tensor:
        """Computes the product of the quantized operands."""
        sides = [(operands.left, operands.left_axis), (operands.right, operands.right_axis)]
        divisor: Tensor | None = None
        quantized = []
        for side, (name, quantizer) in enumerate((('left', self.left_quantizer), ('right', self.right_quantizer))):
            x, axis = sides[side]
            if self.kind.weights == name and operands.spread is not None:
                x = quantizer(divide_by_peak(x, axis))
                divisor = operands.spread(side, x.sum(axis, keepdim=True).clamp_min(LEAST_SUM))
            else:
                x = quantizer(self.transform(x.movedim(axis, -1))).movedim(-1, axis)
            quantized.append(x)
        result = operands.multiply(*quantized)
        return result if divisor is None else result / divisor


def _quantizer(kind: ProductKind, side: str, config: QuantConfig, name: str) -> nn.Module:
    """Builds the quantizer of an operand; a constant has one grid, and the bits of weights."""
    if kind.constant == side:
        return weight_quantizer(config.replace(granularity='tensor'), 1, name)
    return act_quantizer(config, name, vectors=kind.weights != side and not kind.joint)


class ProductForward:
    """Replacement for the `forward` of a module whose products are quantized.

    Only calls in the module's own code count, in their order: while a module below it runs, nothing is intercepted.

    Attributes:
        module: the module.
        name: its dotted name, for messages.
        called: names, below the module, of linears whose weight its code passes to `torch.nn.functional.linear`.
        depth: how many modules below it are running.
    """

    def __init__(self, module: nn.Module, name: str, called: Sequence[str]) -> None:
        self.module: Any = module
        self.name, self.called, self.depth = name, tuple(called), 0
        for child in dict.fromkeys(_called_from(module)):
            child.register_forward_pre_hook(self._enter)
            child.register_forward_hook(self._leave, always_call=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the module's own code with quantized products."""
        with _Interception(self):
            return type(self.module).forward(self.module, *args, **kwargs)

    def layer_of(self, weight: Tensor) -> nn.Module | None:
        """Returns the layer in `called` that has a weight."""
        layers = (self.module.get_submodule(name) for name in self.called)
        return next((layer for layer in layers if layer.weight is weight), None)

    def _enter(self, *_: Any) -> None:
        self.depth += 1

    def _leave(self, *_: Any) -> None:
        self.depth -= 1


class _Interception(ProductMode):
    """Hands products to their quantized form, in the order of the calls, and weights of linears to their layer."""

    def __init__(self, owner: ProductForward) -> None:
        super().__init__()
        self._owner, self._remaining = owner, list(owner.module.quant_products)

    @property
    def is_watching(self) -> bool:
        """Whether the module's own code runs."""
        return self._owner.depth == 0

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns the result of a call, computed with quantized operands if it is a product."""
        operands = operands_of(function, args, kwargs) if self.is_watching else None
        if operands is None:
            return function(*args, **kwargs)
        bias = operands.bias
        with torch._C.DisableTorchFunction():  # not for the interceptions of outer modules
            layer = self._owner.layer_of(operands.right) if function is F.linear else None
            if layer is not None:
                result = layer(operands.left)
                bias = None if bias is layer.bias else bias
            elif not self._owner.module.quant_products:
                return function(*args, **kwargs)
            else:
                result = self._next()(operands)
            return result if bias is None else result + bias

    def attend(self, *args: Any, **kwargs: Any) -> Tensor | None:
        """Returns an attention whose two products are computed as one, if an executor of the first can do it."""
        attend = getattr(self._remaining[0].forward, 'attend', None) if len(self._remaining) > 1 else None
        if attend is None:
            return None
        with torch._C.DisableTorchFunction():
            result: Tensor | None = attend(self._remaining[1], *args, **kwargs)
        if result is not None:
            del self._remaining[:2]
        return result

    def _next(self) -> nn.Module:
        if not self._remaining:
            raise CompSRTError(
                f'The code of `{self._owner.name}` computes more products than are recorded: quantize the network '
                f'again, or leave `{self._owner.name}` in full precision.'
            )
        return self._remaining.pop(0)


def _called_from(module: nn.Module) -> Iterator[nn.Module]:
    """Yields the modules that the code of a module may call: those below it, but not the parts of quantized layers."""
    for child in module.children():
        yield child
        if not isinstance(child, QuantizedLayer):
            yield from _called_from(child)


def quantize_products_(
    module: Any, kinds: Sequence[ProductKind], config: QuantConfig, name: str, called: Sequence[str] = ()
) -> None:
    """Quantizes the products that the code of one module computes, in place.

    Args:
        module: the module; its children keep theirs.
        kinds: its products in the order of its code.
        config: the quantization of the network.
        name: dotted name of the module, for messages.
        called: names, below the module, of linears whose weight its code passes to `torch.nn.functional.linear`.
    """
    forward = ProductForward(module, name, called)
    module.quant_products = nn.ModuleList(
        QuantProduct(kind, config, f'{name}.quant_products.{index}') for index, kind in enumerate(kinds)
    )
    module.forward = forward
