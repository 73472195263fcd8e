"""How much the quantization of each layer costs, to first order, from one forward and one backward pass.

With g the gradient of <v, f(x)> in the output of a layer, for random signs v, and d the error that the quantized layer
makes on its full-precision input, sum((g d)^2) estimates the squared error of the network's output f(x) that this layer
makes alone: v has independent signs, and the errors d of different elements are taken as independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.archs.swinir_attention import QuantWindowAttention
from compsrt_basicsr.quant.layers import QuantizedLayer
from compsrt_basicsr.quant.observation import observing
from compsrt_basicsr.quant.products import QuantProduct
from compsrt_basicsr.quant.quantizer import quantizers, unseen


@dataclass(frozen=True)
class Cost:
    """What one layer, or the products of one module, costs alone.

    Attributes:
        name: dotted name, which `--keep-float` takes.
        error: mean squared error of the output, for values in [0, 1].
    """

    name: str
    error: float


def costs(network: nn.Module, images: Tensor) -> list[Cost]:
    """Estimates the error that each quantized layer makes alone, the largest first.

    Args:
        network: a calibrated network.
        images: (N, C, H, W) in [0, 1].
    """
    totals: dict[str, float] = {}
    signs = torch.Generator(images.device).manual_seed(0)
    with ExitStack() as hooks, observing(network), torch.enable_grad():
        for name, module in _units(network):
            totals.setdefault(name, 0.0)
            hooks.callback(module.register_forward_hook(_Look(name, totals)).remove)
        output = network(images.detach().requires_grad_())
        v = torch.randint(0, 2, output.shape, generator=signs, device=output.device) * 2 - 1
        (output * v).sum().backward()
    return sorted((Cost(name, total / output.numel()) for name, total in totals.items()), key=lambda cost: -cost.error)


def greatest_within(found: list[Cost], multiplications: Mapping[str, int], most: float) -> list[str]:
    """Chooses the layers with the greatest cost for each multiplication, as many as `most` multiplications allow.

    Args:
        found: the costs.
        multiplications: of the layers that may be chosen.
        most: number of multiplications.

    Returns:
        Names, in the order of `multiplications`.
    """
    cost = {each.name: each.error for each in found}
    chosen = set()
    for name in sorted(multiplications, key=lambda name: -cost.get(name, 0.0) / max(multiplications[name], 1)):
        if cost.get(name, 0.0) > 0 and multiplications[name] <= most:
            most -= multiplications[name]
            chosen.add(name)
    return [name for name in multiplications if name in chosen]


class _Look:
    """A forward hook that weights the error of a quantized module with the gradient in its output."""

    def __init__(self, name: str, totals: dict[str, float]) -> None:
        self.name, self.totals = name, totals

    @torch.no_grad()
    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        with torch._C.DisableTorchFunction(), _quantizing(module):
            quantized = module.forward(*inputs)
        for exact, other in zip(_tensors(output), _tensors(quantized)):
            if exact.requires_grad:
                exact.register_hook(_Weigh(self.name, self.totals, other - exact))


class _Weigh:
    """A gradient hook that adds sum((g d)^2) to the total of a layer."""

    def __init__(self, name: str, totals: dict[str, float], error: Tensor) -> None:
        self.name, self.totals, self.error = name, totals, error

    def __call__(self, gradient: Tensor) -> None:
        self.totals[self.name] += float((gradient.double() * self.error).square().sum())


def _units(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields the modules that are quantized on their own, with the name that leaves them out."""
    attentions = [name for name, module in network.named_modules() if isinstance(module, QuantWindowAttention)]
    for name, module in network.named_modules():
        inside = any(name.startswith(f'{attention}.') for attention in attentions)
        if isinstance(module, (QuantWindowAttention, QuantizedLayer, QuantProduct)) and not inside:
            yield name.partition('.quant_products.')[0], module


def _tensors(output: Any) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else [x for x in output if isinstance(x, Tensor)]


@contextmanager
def _quantizing(module: nn.Module) -> Iterator[None]:
    found = quantizers(module).values()
    for quantizer in found:
        quantizer.observer = None
    try:
        yield
    finally:
        for quantizer in found:
            quantizer.observer = unseen
