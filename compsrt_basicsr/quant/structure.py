"""What a network is made of, found by running it on two small images: layers, products of activations, foldable norms.

Only structure is found, which is the same for all weights of an architecture. It is stored in the record of a quantized
network, so that a file builds it again without running it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.errors import CompSRTError, first_line
from compsrt_basicsr.quant.operands import Operands, ProductMode, operands_of
from compsrt_basicsr.quant.products import ProductKind

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
_NORMS = (nn.BatchNorm2d,)
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Structure:
    """The structure of a network that quantization needs.

    Attributes:
        products: the products that modules compute themselves, by dotted name of the module whose code does, in the
            order of the code.
        folds: dotted names of a convolution and of the batch norm that takes its output and nothing else does.
        unused: dotted names of layers that do not run in eval mode for every image.
        called: dotted names of linears whose weight the code of a module passes to `torch.nn.functional.linear`
            itself, by dotted name of the module.
    """

    products: Mapping[str, Sequence[ProductKind]] = field(default_factory=dict)
    folds: Sequence[tuple[str, str]] = ()
    unused: Sequence[str] = ()
    called: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain data."""
        products = {
            name: [[kind.order or 0, kind.weights or '', kind.constant or '', int(kind.joint)] for kind in kinds]
            for name, kinds in self.products.items()
        }
        called = {name: list(layers) for name, layers in self.called.items()}
        folds = [list(pair) for pair in self.folds]
        return {'products': products, 'folds': folds, 'unused': list(self.unused), 'called': called}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Structure:
        """Reads what `to_json` returned.

        Raises:
            CompSRTError: if it is something else.
        """
        try:
            products = {
                str(name): tuple(_kind_from(*kind) for kind in kinds) for name, kinds in data['products'].items()
            }
            folds = tuple((str(conv), str(norm)) for conv, norm in data['folds'])
            called = {str(name): tuple(map(str, layers)) for name, layers in data.get('called', {}).items()}
            return cls(products, folds, tuple(str(name) for name in data['unused']), called)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CompSRTError('The recorded structure of the network is damaged: make the file again.') from error


def _kind_from(order: Any, weights: Any, constant: Any = '', joint: Any = 0) -> ProductKind:
    return ProductKind(int(order) or None, str(weights) or None, str(constant) or None, bool(int(joint)))


@dataclass
class Tracing:
    """What a pass through a network showed.

    Attributes:
        structure: what quantization needs.
        multiplications: by dotted name of a layer, or of a product as `MODULE.quant_products.I`, for the first image;
            `MODULE.functional` has those that the code of a module does in ways that nothing quantizes.
        calls: how often each layer ran.
        pixels: of the first image.
    """

    structure: Structure
    multiplications: dict[str, int]
    calls: Counter[str]
    pixels: int


@torch.no_grad()
def trace(network: nn.Module, channels: int, sides: tuple[int, int] = (32, 48)) -> Tracing:
    """Runs a network on two random images of different size and lists what it computes.

    Args:
        network: a network in full precision; its state stays as it is.
        channels: of the image.
        sides: of the two square images, in pixels; the network must take them.

    Raises:
        CompSRTError: if the network cannot take such images, or computes other products for another size.
    """
    passes = []
    training = network.training
    generator = torch.Generator().manual_seed(0)
    device = next(network.parameters()).device
    try:
        network.eval()
        for side in sides:
            image = torch.rand(1, channels, side, side, generator=generator).to(device)
            tracer = _Tracer(network)
            with tracer.watching():
                network(image)
            passes.append(tracer)
    except (RuntimeError, AssertionError, ValueError, IndexError, TypeError, AttributeError) as error:
        raise CompSRTError(
            f'{type(network).__name__} cannot take images of {sides[0]}x{sides[0]} and {sides[1]}x{sides[1]} pixels '
            f'with {channels} channels ({first_line(error)}).'
        ) from error
    finally:
        network.train(training)
    first, second = passes
    layers = (name for name, module in network.named_modules() if isinstance(module, _LAYERS))
    unused = tuple(name for name in layers if not (first.calls[name] and second.calls[name]))
    called = {name: tuple(layers) for name, layers in first.called.items() if second.called.get(name) == layers}
    structure = Structure(_merge(first.products, second.products), first.folds(), unused, called)
    return Tracing(structure, first.multiplications, first.calls, sides[0] ** 2)


Found = dict[str, list[ProductKind]]


def _merge(first: Found, second: Found) -> Found:
    """Keeps of the products of two passes what is the same; modules whose number of products varies are left out."""
    return {
        name: [
            ProductKind(
                a.order if a.order == b.order else None,
                a.weights if a.weights == b.weights else None,
                a.constant,
                a.joint or b.joint,
            )
            for a, b in zip(kinds, second[name])
        ]
        for name, kinds in first.items()
        if len(second.get(name, ())) == len(kinds)
    }


class _Tracer(ProductMode):
    """Watches one pass: who runs, which products it computes, and who uses the outputs of convolutions."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.products: Found = {}
        self.called: dict[str, list[str]] = {}
        self.multiplications: dict[str, int] = {}
        self.calls: Counter[str] = Counter()
        self._network = network
        self._names = {module: name for name, module in network.named_modules()}
        self._constants = {id(value) for value in (*network.parameters(), *network.buffers())}
        self._weights = {id(each.weight): name for each, name in self._names.items() if type(each) is nn.Linear}
        self._running: list[nn.Module] = []
        self._seen: list[int] = []  # products that each running module has computed in this call
        self._outputs: dict[int, tuple[Tensor, str]] = {}  # of convolutions; keeps them alive, so that ids are unique
        self._uses: Counter[int] = Counter()
        self._normed: dict[int, str] = {}

    def watching(self) -> ExitStack:
        """Returns a context in which the network is watched."""
        stack = ExitStack()
        for module in self._names:
            stack.callback(module.register_forward_pre_hook(self._enter).remove)
            stack.callback(module.register_forward_hook(self._leave, always_call=True).remove)
        stack.enter_context(self)
        return stack

    def folds(self) -> tuple[tuple[str, str], ...]:
        """Returns convolutions and batch norms that run once, one directly after the other, and nobody between."""
        pairs = [(self._outputs[key][1], norm) for key, norm in self._normed.items() if self._uses[key] == 1]
        return tuple((conv, norm) for conv, norm in pairs if self.calls[conv] == self.calls[norm] == 1)

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._running.append(module)
        self._seen.append(0)
        name = self._names[module]
        if isinstance(module, (*_LAYERS, *_NORMS)):
            self.calls[name] += 1
        if isinstance(module, _NORMS) and inputs and id(inputs[0]) in self._outputs:
            self._normed[id(inputs[0])] = name

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._running.pop()
        self._seen.pop()
        if isinstance(module, _LAYERS) and isinstance(output, Tensor):
            name = self._names[module]
            self._count(name, _multiplications(module, inputs, output))
            if type(module) is nn.Conv2d:
                self._outputs[id(output)] = output, name

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Computes a call and notes what it is."""
        for value in (*args, *kwargs.values()):
            for x in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(x, Tensor) and id(x) in self._outputs:
                    self._uses[id(x)] += function is F.batch_norm or _reads(function)
        result = function(*args, **kwargs)
        if not self._running or isinstance(self._running[-1], _LAYERS):
            return result
        operands = operands_of(function, args, kwargs)
        if operands is None:
            name = f'{self._names[self._running[-1]]}.functional'
            self._count(name, _functional(function, result, args, kwargs))
        elif function is F.linear and (layer := self._layer_of(operands)):
            self._call_layer(layer, result.numel() * operands.order)
        else:
            self._add(operands, result)
        return result

    def _layer_of(self, operands: Operands) -> str | None:
        """Returns the layer below the running module whose weight, and bias if it has one, a linear takes."""
        name = self._weights.get(id(operands.right), '')
        owner = self._names[self._running[-1]]
        if not name or (owner and not name.startswith(f'{owner}.')):
            return None
        bias = self._network.get_submodule(name).bias
        return name if bias is None or bias is operands.bias else None

    def _call_layer(self, name: str, multiplications: int) -> None:
        called = self.called.setdefault(self._names[self._running[-1]], [])
        if name not in called:
            called.append(name)
        self.calls[name] += 1
        self._count(name, multiplications)

    def _count(self, name: str, number: int) -> None:
        if number:
            self.multiplications[name] = self.multiplications.get(name, 0) + number

    def _add(self, operands: Operands, result: Tensor) -> None:
        name = self._names[self._running[-1]]
        known = self.products.setdefault(name, [])
        index = self._seen[-1]
        self._seen[-1] += 1
        kind = self._kind(operands)
        if index == len(known):
            known.append(kind)
        else:  # the module runs again
            known[index] = _merge({name: [known[index]]}, {name: [kind]})[name][0]
        self._count(f'{name}.quant_products.{index}', result.numel() * operands.order)

    def _kind(self, operands: Operands) -> ProductKind:
        sides = ('left', operands.left, operands.left_axis), ('right', operands.right, operands.right_axis)
        constant = next((name for name, x, _ in sides if id(x) in self._constants), None)
        if operands.spread is None:
            return ProductKind(constant=constant, joint=True)
        for name, x, axis in sides:
            if bool((x >= 0).all()) and bool(((x.sum(axis) - 1).abs() < _SUM_TOLERANCE).all()):
                return ProductKind(None, name, constant)
        signed = all(bool((x < 0).any()) and bool((x > 0).any()) for _, x, _ in sides)
        return ProductKind(operands.order if signed else None, None, constant)


def _reads(function: Any) -> bool:
    """Returns whether a function uses the values of its arguments, not only their shape."""
    return getattr(function, '__name__', '') not in ('__get__', 'size', 'dim', 'numel', 'stride', 'is_contiguous')


def _multiplications(layer: Any, inputs: tuple[Any, ...], output: Tensor) -> int:
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    kernel = prod(layer.kernel_size) * layer.in_channels // layer.groups
    if isinstance(layer, nn.ConvTranspose2d):  # each input value meets each weight of its channel
        return inputs[0].numel() * prod(layer.kernel_size) * layer.out_channels // layer.groups
    return output.numel() * kernel


def _functional(function: Any, result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Counts the multiplications of the functions of layers that nothing quantizes."""
    if function is F.multi_head_attention_forward:
        query, keys = args[0], args[1]
        linears = 2 * (query.numel() + keys.numel()) * query.shape[-1]
        return int(linears + 2 * query.numel() * keys.shape[0])
    if function is not F.conv_transpose2d:
        return 0
    x, weight = (args[i] if len(args) > i else kwargs[name] for i, name in enumerate(('input', 'weight')))
    return int(x.numel() * weight[0].numel())
