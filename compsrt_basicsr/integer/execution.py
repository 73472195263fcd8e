"""How a quantized network computes: by fake quantization, or on integer codes.

`set_execution_` puts an executor in the place of the `forward` of each layer that can run on codes; the modules, their
parameters and their state dict stay as they are. An executor steps aside, for fake quantization, whenever more is asked
for than a result: in training, when gradients are wanted, while a quantizer is observed or a hook looks inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.integer.arithmetic import FoldedProduct, fold_product
from compsrt_basicsr.integer.cpp_kernels import Grid, NativeLinear, kernel_is_right, kernels
from compsrt_basicsr.quant.functional.affine import quantize
from compsrt_basicsr.quant.layers import QuantizedLayer, QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.quantizer import Quantizer

EXECUTIONS = ('fake', 'integer')


@dataclass(frozen=True)
class ExecutionReport:
    """What runs how.

    Attributes:
        layers: 'kernel' (C++), 'torch' (codes in torch), or 'fake: REASON' for each executed module's dotted name.
    """

    layers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = Counter(self.layers.values())
        return ', '.join(f'{count} {how}' for how, count in counts.items()) or 'fake quantization'


class Executor:
    """Stands in for the `forward` of a module.

    What it needs is prepared at the first run and again when a parameter or buffer below the module has changed.
    """

    delegates = False  # whether it may leave the work to the module's own `forward`, and so to executors inside

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._key: list | None = None
        self._sources: list[Tensor] = []  # keep the memory, so that no other tensor can get the same address
        self._prepared: Any = None

    @classmethod
    def obstacle(cls, module: nn.Module) -> str | None:
        """Why a module cannot run on codes, or None."""
        for part in module.modules():
            if isinstance(part, QuantizedLayer) and part.config.operands != 'both':
                return f'of its operands only the {part.config.operands} are quantized'
            if isinstance(part, Quantizer) and part.code_range != 'strict':
                return 'codes in paper range are not clamped to b bits'
            if getattr(part, 'projection', None) is not None:
                return 'a padded transform lies between codes and product'
        return None

    @classmethod
    def how(cls, module: nn.Module) -> str:
        """'kernel' or 'torch'."""
        raise NotImplementedError

    def prepare(self) -> Any:
        """Takes codes and grids from the module."""
        raise NotImplementedError

    def run(self, prepared: Any, x: Tensor, *arguments: Any, **named: Any) -> Any:
        """The module's result, computed on codes, of the arguments of its `forward`."""
        raise NotImplementedError

    def __call__(self, x: Tensor, *arguments: Any, **named: Any) -> Any:
        if not self._applies(x):
            return type(self.module).forward(self.module, x, *arguments, **named)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return self.run(self._current(), x.float(), *arguments, **named)

    def _applies(self, x: Tensor) -> bool:
        if self.module.training or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return False
        if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in self.module.parameters())):
            return False
        if any(p.device != x.device for p in self.module.parameters()):
            return False
        inside = [m for m in self.module.modules() if m is not self.module]
        return not any(m._forward_hooks or m._forward_pre_hooks or _watched(m) for m in inside)

    def _current(self) -> Any:
        tensors = [t for m in self.module.modules() for t in (*m._parameters.values(), *m._buffers.values())]
        tensors = [t for t in tensors if t is not None]
        key = [(0 if t.is_inference() else t._version, t.data_ptr()) for t in tensors]
        if key != self._key:
            with torch.inference_mode(False):
                self._prepared, self._key, self._sources = self.prepare(), key, [t.detach() for t in tensors]
        return self._prepared

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_key': None, '_sources': [], '_prepared': None}  # copies prepare for themselves


EXECUTORS: dict[type[nn.Module], type[Executor]] = {}


def executes(*module_types: type[nn.Module]) -> Callable[[type[Executor]], type[Executor]]:
    """Class decorator: registers an executor for modules of these types; a module inside another one is covered."""

    def register(executor: type[Executor]) -> type[Executor]:
        EXECUTORS.update(dict.fromkeys(module_types, executor))
        return executor

    return register


def set_execution_(network: nn.Module, execution: str) -> ExecutionReport:
    """Makes a quantized network compute on integer codes, or by fake quantization again; in place.

    Args:
        network: any quantized network, calibrated or not yet.
        execution: 'integer' or 'fake'.

    Returns:
        What runs how.

    Raises:
        CompSRTError: unknown `execution`, or no layer can run on codes (paper range, padded transform,
            an operand that stays float).
    """
    if execution not in EXECUTIONS:
        raise CompSRTError(
            f'`execution` must be one of {", ".join(EXECUTIONS)}, got {execution!r}.{suggestion(execution, EXECUTIONS)}'
        )
    for module in network.modules():
        if isinstance(module.__dict__.get('forward'), Executor):
            del module.forward
    layers: dict[str, str] = {}
    if execution == 'integer':
        _install(network, '', layers)
        if all(how.startswith('fake') for how in layers.values()):
            reasons = sorted({how.removeprefix('fake: ') for how in layers.values()}) or ['it has no quantized layer']
            raise CompSRTError(
                f'{type(network).__name__} cannot run on integer codes: {"; ".join(reasons)}. '
                'Use `quant.code_range: strict` and `quant.operands: both` with an exact transform such as `auto`, or '
                '`quant.execution: fake`.'
            )
    return ExecutionReport(layers)


def _install(module: nn.Module, name: str, layers: dict[str, str]) -> None:
    executor = EXECUTORS.get(type(module))
    obstacle = executor and executor.obstacle(module)
    if executor and obstacle is None:
        module.forward = executor(module)  # type: ignore[method-assign]
        layers[name] = executor.how(module)
        if executor.delegates:
            for child in module.children():
                _install(child, '', {})
        return
    if isinstance(module, QuantizedLayer):
        layers[name] = f'fake: {obstacle or "convolutions have no integer form here"}'
    for child_name, child in module.named_children():
        _install(child, f'{name}.{child_name}' if name else child_name, layers)


def _watched(module: nn.Module) -> bool:
    return isinstance(module, Quantizer) and (module.observer is not None or not module.is_calibrated)


def act_grid(quantizer: Quantizer) -> Grid:
    """The grid of an activation as numbers, exactly those of fake quantization."""
    scale, zero = quantizer.grid()
    return float(scale.detach()), float(zero.detach()), quantizer.levels - 1


def fold_layer(layer: QuantLinear | QuantSplitLinear) -> tuple[list[FoldedProduct], list[Quantizer]]:
    """The folded weight of each part of a linear, and the quantizers of their inputs."""
    weights = layer.weight_quantizers()
    acts = layer.act_quantizers()
    biases = [None] * len(weights) if layer.bias is None else layer.bias.chunk(len(weights))
    blocks = layer.weight_codes().chunk(len(weights))
    products = [
        fold_product(codes, weight.bits, weight.grid(), act.grid(), bias)
        for codes, weight, act, bias in zip(blocks, weights, acts, biases)
    ]
    return products, acts


def native_linear(layer: QuantLinear | QuantSplitLinear) -> NativeLinear:
    """A linear in the kernels; `kernel_is_right` has been asked."""
    products, acts = fold_layer(layer)
    return NativeLinear(kernels(), layer.transform.matrix, products, [act_grid(act) for act in acts])


def linear_size(layer: QuantizedLayer) -> tuple[int, int]:
    """(K, N) of a part of a linear."""
    rows, columns = layer.weight_codes().shape
    return columns, rows // len(layer.weight_quantizers())


def on_cpu(module: nn.Module) -> bool:
    """True where all of a module is on the CPU."""
    return all(p.device.type == 'cpu' for p in module.parameters())


@executes(QuantLinear, QuantSplitLinear)
class LinearExecutor(Executor):
    """A linear layer, or several of one input, on codes."""

    @classmethod
    def how(cls, module: nn.Module) -> str:
        return 'kernel' if on_cpu(module) and kernel_is_right(*linear_size(module)) else 'torch'

    def prepare(self) -> Callable[[Tensor], list[Tensor]]:
        return integer_linear(self.module, self.how(self.module))

    def run(self, prepared: Callable[[Tensor], list[Tensor]], x: Tensor) -> Tensor | list[Tensor]:
        parts = prepared(x)
        return parts if isinstance(self.module, QuantSplitLinear) else parts[0]


def integer_linear(layer: QuantLinear | QuantSplitLinear, how: str) -> Callable[[Tensor], list[Tensor]]:
    """A function from x (..., d) to the outputs of the parts, (..., O / parts) each."""
    if how == 'kernel':
        native = native_linear(layer)
        return lambda x: list(native(x).unbind(0))
    products, acts = fold_layer(layer)
    grids = [(*(g.detach() for g in act.grid()), act.levels) for act in acts]

    def run(x: Tensor) -> list[Tensor]:
        transformed = layer.transform(x)
        return [p.apply(quantize(transformed, *grid)) for p, grid in zip(products, grids)]

    return run
