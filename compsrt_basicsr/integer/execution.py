"""Execution of a quantized network by fake quantization or on integer codes.

`set_execution_` replaces the `forward` of each layer that can run on codes by an executor. The modules, their
parameters and their state dict do not change. An executor falls back to fake quantization whenever more is asked
for than a result: in training, when gradients are wanted, while a quantizer is observed or a hook looks inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.integer.arithmetic import FoldedProduct, fold_product
from compsrt_basicsr.integer.cpp_kernels import CppLinear, Grid, Side, kernel_is_right, tokens_are_right
from compsrt_basicsr.kernels.loaded import kernels
from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.functional.affine import quantize, vector_grid
from compsrt_basicsr.quant.layers import QuantizedLayer, QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.products import QuantProduct
from compsrt_basicsr.quant.quantizer import Quantizer

EXECUTIONS = ('fake', 'integer')
ON_CODES = ('kernel', 'torch')  # how layers run, see `ExecutionReport`
ONLY_WEIGHTS = 'only the weights are quantized'


@dataclass(frozen=True)
class ExecutionReport:
    """How each layer of a network runs.

    Attributes:
        layers: by dotted name of each layer: 'kernel' (C++), 'torch' (codes in torch), 'float' (only the weight is
            quantized, and multiplied as floats), or 'fake: REASON'.
    """

    layers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = Counter(self.layers.values())
        return ', '.join(f'{count} {how}' for how, count in counts.items()) or 'fake quantization'


class Executor:
    """Replacement for the `forward` of a module.

    Codes and grids are prepared in the first run, and again after a parameter or buffer of the module has changed.
    """

    delegates = False  # whether `run` may call the module's own `forward`, and with it executors of inner modules
    reported = True  # whether `ExecutionReport` names the module: not those that stay in full precision
    takes_vectors = False  # whether vectors of an activation may have grids of their own, and inputs be equalized

    def __init__(self, module: nn.Module) -> None:
        self.module: Any = module
        self._key: list[int] | None = None
        self._sources: list[Tensor] = []  # keep the memory alive, so that no other tensor gets the same address
        self._prepared: Any = None

    @classmethod
    def obstacle(cls, module: Any) -> str | None:
        """Returns why a module cannot run on codes, or None if it can."""
        for part in module.modules():
            if isinstance(part, QuantizedLayer) and part.config.operands != 'both':
                return f'only the {part.config.operands} are quantized'
            if isinstance(part, QuantizedLayer) and part.input_shift is not None and not cls.takes_vectors:
                return 'inputs are equalized'
            if isinstance(part, Quantizer) and part.code_range != 'strict':
                return 'codes in paper range are not clamped to b bits'
            if isinstance(part, Quantizer) and part.vector_axis is not None and not cls.takes_vectors:
                return 'each token has a grid of its own'
            if getattr(part, 'projection', None) is not None:
                return 'a padded transform must be undone between codes and product'
        return None

    @classmethod
    def how(cls, module: Any) -> str:
        """Returns 'kernel' or 'torch'."""
        raise NotImplementedError

    def prepare(self) -> Any:
        """Extracts codes and grids from the module."""
        raise NotImplementedError

    def run(self, prepared: Any, x: Tensor, *arguments: Any, **named: Any) -> Any:
        """Computes the result of the module's `forward` on codes."""
        raise NotImplementedError

    def __call__(self, x: Tensor, *arguments: Any, **named: Any) -> Any:
        """Runs on codes if nothing more is asked for, else by fake quantization."""
        modules = _modules(self.module)
        if not self._applies(x, modules=modules):
            return type(self.module).forward(self.module, x, *arguments, **named)
        with torch.no_grad(), without_autocast(x.device.type):
            return self.run(self._current(modules), x.float(), *arguments, **named)

    def _applies(self, *inputs: Tensor, modules: list[nn.Module] | None = None) -> bool:
        if self.module.training or torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
            return False
        if is_in_torch_dispatch_mode():  # fake tensors have no memory
            return False
        modules = modules or _modules(self.module)
        for m in modules[1:]:
            if m._forward_hooks or m._forward_pre_hooks or _watched(m):
                return False
        given = [*inputs, *(p for m in modules for p in m._parameters.values() if p is not None)]
        if torch.is_grad_enabled() and any(t.requires_grad for t in given):
            return False
        on_cpu = given[0].is_cpu
        return all(t.is_cpu == on_cpu for t in given) and (on_cpu or len({t.device for t in given}) == 1)

    def _current(self, modules: list[nn.Module] | None = None) -> Any:
        key: list[int] = []
        tensors: list[Tensor] = []
        for m in modules or _modules(self.module):
            for store in (m._parameters, m._buffers):
                for t in store.values():
                    if t is not None:
                        tensors.append(t)
                        key += (_version(t), t.data_ptr())
        if key != self._key:
            with torch.inference_mode(False):
                self._prepared, self._key, self._sources = self.prepare(), key, [t.detach() for t in tensors]
        return self._prepared

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_key': None, '_sources': [], '_prepared': None}  # a copy prepares its own data


def _version(tensor: Tensor) -> int:
    try:
        return tensor._version
    except RuntimeError:  # a tensor of inference mode, which has none
        return 0


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Returns a context in which torch computes in the dtypes that it is given."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _modules(module: nn.Module) -> list[nn.Module]:
    """Returns a module and those inside it, like `module.modules()`, which takes longer."""
    found = [module]
    for one in found:
        found += [child for child in one._modules.values() if child is not None]
    return found


EXECUTORS: dict[type[nn.Module], type[Executor]] = {}


def executes(*module_types: type[nn.Module]) -> Callable[[type[Executor]], type[Executor]]:
    """Class decorator that registers an executor for modules of these types, including the modules inside them."""

    def register(executor: type[Executor]) -> type[Executor]:
        EXECUTORS.update(dict.fromkeys(module_types, executor))
        return executor

    return register


def set_execution_(network: nn.Module, execution: str) -> ExecutionReport:
    """Switches a quantized network to integer codes, or back to fake quantization, in place.

    Args:
        network: any quantized network, calibrated or not.
        execution: 'integer' or 'fake'.

    Returns:
        How each layer runs.

    Raises:
        CompSRTError: if `execution` is unknown, or no layer can run on codes (paper range, padded transform, or only
            one quantized operand).
    """
    if execution not in EXECUTIONS:
        raise CompSRTError(
            f'`execution` must be one of {", ".join(EXECUTIONS)}, got {execution!r}.{suggestion(execution, EXECUTIONS)}'
        )
    _remove(network)
    layers: dict[str, str] = {}
    if execution == 'integer':
        _install(network, '', layers)
        if not any(how in ON_CODES for how in layers.values()):
            _remove(network)
            reasons = {ONLY_WEIGHTS if how == 'float' else how.removeprefix('fake: ') for how in layers.values()}
            why = '; '.join(sorted(reasons)) or 'it has no quantized layer'
            raise CompSRTError(
                f'{type(network).__name__} cannot run on integer codes: {why}. '
                'Use `quant.code_range: strict`, `quant.operands: both` and an exact transform such as `auto`, or set '
                '`quant.execution: fake`.'
            )
    return ExecutionReport(layers)


def _remove(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module.__dict__.get('forward'), Executor):
            del module.forward


def _install(module: nn.Module, name: str, layers: dict[str, str]) -> None:
    executor = EXECUTORS.get(type(module))
    obstacle = executor and executor.obstacle(module)
    if executor and obstacle is None:
        module.forward = executor(module)
        if executor.reported:
            layers[name] = executor.how(module)
        if executor.delegates:
            for child in module.children():
                _install(child, '', {})
        return
    if isinstance(module, (QuantizedLayer, QuantProduct)):
        layers[name] = f'fake: {obstacle or "convolutions have no integer kernel"}'
    for child_name, child in module.named_children():
        _install(child, f'{name}.{child_name}' if name else child_name, layers)


def _watched(module: nn.Module) -> bool:
    return isinstance(module, Quantizer) and (module.observer is not None or not module.is_calibrated)


def act_grid(quantizer: Quantizer) -> Grid:
    """Returns the grid of an activation as numbers, identical to those of fake quantization."""
    scale, zero = quantizer.grid()
    return float(scale.detach()), float(zero.detach()), quantizer.levels - 1


def act_side(quantizer: Quantizer) -> Side:
    """Returns the grid of an activation, and whether its vectors have grids of their own."""
    return (*act_grid(quantizer), quantizer.vector_axis is not None)


LinearLayer = QuantLinear | QuantSplitLinear | QuantConv2d  # of the last one, those with a kernel of one pixel


def fold_layer(layer: LinearLayer) -> tuple[list[FoldedProduct], list[Quantizer]]:
    """Folds the weight of each part of a linear layer; returns them with the quantizers of their inputs."""
    weights = layer.weight_quantizers()
    acts = layer.act_quantizers()
    biases = [None] * len(weights) if layer.bias is None else layer.bias.chunk(len(weights))
    blocks = layer.weight_codes().flatten(1).chunk(len(weights))
    grids = [act.grid() if act.vector_axis is None else None for act in acts]
    products = [
        fold_product(codes, weight.bits, weight.grid(), grid, bias)
        for codes, weight, grid, bias in zip(blocks, weights, grids, biases)
    ]
    return products, acts


def cpp_linear(layer: LinearLayer) -> CppLinear:
    """Builds a linear layer in the C++ kernels. Call only after `kernel_is_right`."""
    library = kernels()
    assert library is not None
    products, acts = fold_layer(layer)
    shift, scale = layer.input_shift, layer.input_scale
    equalization = None if shift is None or scale is None else (shift, scale)
    return CppLinear(library, layer.transform.matrix, products, [act_side(act) for act in acts], equalization)


def linear_size(layer: QuantizedLayer) -> tuple[int, int]:
    """Returns (K, N) of one part of a linear layer."""
    rows, columns = layer.transformed_shape[:2]
    return columns, rows // len(layer.weight_quantizers())


def kernels_fit(layer: LinearLayer) -> bool:
    """Returns whether the kernels compute a linear layer right on this machine."""
    tokens = layer.input_shift is not None or any(act.vector_axis is not None for act in layer.act_quantizers())
    return on_cpu(layer) and (tokens_are_right if tokens else kernel_is_right)(*linear_size(layer))


def on_cpu(module: nn.Module) -> bool:
    """Returns whether all parameters of a module are on the CPU."""
    return all(p.device.type == 'cpu' for p in module.parameters())


@executes(QuantLinear, QuantSplitLinear)
class LinearExecutor(Executor):
    """Runs a linear layer, or several with the same input, on codes.

    With quantized weights but an input in full precision, it multiplies floats by a weight that is prepared once.
    """

    takes_vectors = True

    @classmethod
    def obstacle(cls, module: Any) -> str | None:
        return None if module.config.operands == 'weights' else super().obstacle(module)

    @classmethod
    def how(cls, module: Any) -> str:
        if module.config.operands == 'weights':
            return 'float'
        return 'kernel' if kernels_fit(module) else 'torch'

    def prepare(self) -> Callable[[Tensor], list[Tensor]]:
        return integer_linear(self.module, self.how(self.module))

    def run(self, prepared: Callable[[Tensor], list[Tensor]], x: Tensor) -> Tensor | list[Tensor]:
        parts = prepared(x)
        return self.module.gather(parts) if isinstance(self.module, QuantSplitLinear) else parts[0]


@executes(QuantConv2d)
class PixelExecutor(Executor):
    """Runs a convolution with a kernel of one pixel on codes: a linear layer of the channels."""

    takes_vectors = True

    @classmethod
    def obstacle(cls, module: Any) -> str | None:
        plain = module.groups == 1 and module.weight.shape[2:] == (1, 1) and set(module.stride) == {1}
        if not plain or any(module.border):
            return 'convolutions have no integer kernel'
        return super().obstacle(module)

    @classmethod
    def how(cls, module: Any) -> str:
        return LinearExecutor.how(module)

    def prepare(self) -> Callable[[Tensor], Tensor]:
        if self.how(self.module) == 'kernel':
            return cpp_linear(self.module).on_images
        linear = integer_linear(self.module, 'torch')
        return lambda x: linear(x.movedim(1, -1))[0].movedim(-1, 1)

    def run(self, prepared: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return self.module.out_quantizer(prepared(x))


def integer_linear(layer: LinearLayer, how: str) -> Callable[[Tensor], list[Tensor]]:
    """Builds a function from x (..., d) to the outputs of the parts, (..., O / parts) each.

    Args:
        layer: a quantized linear layer.
        how: 'kernel', 'torch' or 'float'.
    """
    if how == 'float':
        return _float_linear(layer)
    if how == 'kernel':
        linear = cpp_linear(layer)
        return lambda x: list(linear(x).unbind(0))
    products, acts = fold_layer(layer)
    grids = [(scale.detach(), zero.detach()) for act in acts for scale, zero in [act.grid()]]

    def apply(product: FoldedProduct, act: Quantizer, grid: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        scale, zero = grid
        if act.vector_axis is None:
            return product.apply(quantize(x, scale, zero, act.levels))
        scale, zero = vector_grid(scale, zero, x, -1)
        return product.apply(quantize(x, scale, zero, act.levels), scale, zero)

    def run(x: Tensor) -> list[Tensor]:
        x = layer.transform(layer.equalized(x))
        return [apply(*part, x) for part in zip(products, acts, grids)]

    return run


def _float_linear(layer: LinearLayer) -> Callable[[Tensor], list[Tensor]]:
    """Folds equalization, transform and quantized weight into one product of floats."""
    weight = torch.cat([layer.transform.project(block) for block in layer.quantized_weights()]).detach().double()
    if layer.transform.matrix is not None:
        weight = weight @ layer.transform.matrix.double().T
    bias = None if layer.bias is None else layer.bias.detach().double()
    if layer.input_shift is not None and layer.input_scale is not None and bias is not None:
        weight = weight / layer.input_scale.double()
        bias = bias - weight @ layer.input_shift.double()
    folded, added, parts = weight.float(), None if bias is None else bias.float(), len(layer.weight_quantizers())
    return lambda x: list(F.linear(x, folded, added).chunk(parts, -1))
