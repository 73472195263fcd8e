"""Any network as an ONNX graph for images of any size, with marks where quantizers and quantized weights are.

PyTorch's tracing exporter writes the graph. Quantizers and quantized layers appear in it as operators of the domain
`MARKS`, which onnx/qdq.py replaces.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from onnx import ModelProto
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from compsrt_basicsr.archs.rebuild import Geometry
from compsrt_basicsr.archs.spandrel_arch import SpandrelNetwork
from compsrt_basicsr.archs.swinir_attention import QuantWindowAttention
from compsrt_basicsr.basicsr_compat.swinir import SwinIR
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx.check import clip
from compsrt_basicsr.onnx.masks import short_masks
from compsrt_basicsr.onnx.model import INPUT, OUTPUT
from compsrt_basicsr.quant.layers import (
    QuantConv2d,
    QuantConvTranspose2d,
    QuantizedLayer,
    QuantLinear,
    QuantSplitLinear,
    quantized_layers,
)
from compsrt_basicsr.quant.products import Operands, QuantProduct
from compsrt_basicsr.quant.quantizer import Quantizer
from compsrt_basicsr.quant.transform import Transform, spread
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

MARKS = 'compsrt'
QUANTIZE, WEIGHT = 'Quantize', 'Weight'
OPSET = 20
# Pixels at least, of the image that is traced: different, so that a confusion of them shows, and odd, because many
# networks pad only images whose sides are no multiples of their window, and a trace keeps one branch.
_SIDES = (37, 53)


class _Mark(torch.autograd.Function):
    """Returns a copy of x, and an operator of the domain `MARKS` in a traced graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str, name: str) -> Tensor:
        return x.clone()

    @staticmethod
    def symbolic(g: Any, x: Any, kind: str, name: str) -> Any:
        return g.op(f'{MARKS}::{kind}', x, name_s=name).setType(x.type())


class _AnySize(nn.Module):
    """Pads an image of any size like `compsrt upscale`, runs the network and crops; the graph computes the sizes."""

    def __init__(self, network: nn.Module, shape: Geometry) -> None:
        super().__init__()
        self.network, self.shape = network, shape
        self.least = 0
        if isinstance(network, SpandrelNetwork):
            if network._square:
                raise CompSRTError(f'{network.arch} takes square images only: its size cannot be left open in a file.')
            self.least = network.minimum + -network.minimum % shape.multiple

    def forward(self, x: Tensor) -> Tensor:
        """Maps (1, C, H, W) to (1, C', H scale, W scale)."""
        height, width = x.shape[-2:]
        for axis in (2, 3):
            if self.shape.multiple > 1:
                x = _mirrored(x, axis, self.shape.multiple)
            if self.least > 1:
                x = _reflected(x, axis, self.least)
        inner = self.network
        y = inner._call(inner.model, x) if isinstance(inner, SpandrelNetwork) else inner(x)
        return y[:, :, : height * self.shape.scale, : width * self.shape.scale]


def _mirrored(x: Tensor, axis: int, multiple: int) -> Tensor:
    """Mirrors one side to a multiple, as `pad_to_multiple` does."""
    length: Any = torch._shape_as_tensor(x)[axis]
    total: Any = torch.div(length + (multiple - 1), multiple, rounding_mode='floor') * multiple
    position = torch.remainder(torch.arange(total), 2 * length)
    return x.index_select(axis, torch.minimum(position, 2 * length - 1 - position))


def _reflected(x: Tensor, axis: int, least: int) -> Tensor:
    """Mirrors one side without the edge pixel to at least `least` pixels, as `SpandrelNetwork` does."""
    length: Any = torch._shape_as_tensor(x)[axis]
    return padded_by_indices(x, axis, 0, torch.clamp(least - length, min=0), 'reflect')


def padded_by_indices(x: Tensor, axis: int, before: Any, after: Any, mode: str) -> Tensor:
    """Pads one side like `torch.nn.functional.pad`, of which it takes `mode`, by gathering pixels."""
    length: Any = torch._shape_as_tensor(x)[axis]
    position = torch.arange(length + before + after) - before
    if mode == 'circular':
        position = torch.remainder(position, length)
    elif mode == 'replicate':
        position = torch.minimum(torch.clamp(position, min=0), length - 1)
    else:
        period = torch.clamp(2 * length - 2, min=1)
        position = torch.remainder(position, period)
        position = torch.minimum(position, period - position)
    return x.index_select(axis, position)


class GatheredPadding(TorchFunctionMode):
    """Gathers pixels instead of padding where the widths are computed: OpenVINO leaves out such Pad operators."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replaces calls of `torch.nn.functional.pad`."""
        if func is F.pad:
            x, widths, mode, _ = _pad_arguments(*args, **(kwargs or {}))
            if mode in ('reflect', 'replicate', 'circular') and any(isinstance(width, Tensor) for width in widths):
                for number, (before, after) in enumerate(zip(widths[::2], widths[1::2]), 1):
                    if isinstance(before, Tensor) or isinstance(after, Tensor) or before or after:
                        x = padded_by_indices(x, x.ndim - number, before, after, mode)
                return x
        return func(*args, **(kwargs or {}))


def _pad_arguments(
    input: Tensor, pad: Sequence[Any], mode: str = 'constant', value: float | None = None
) -> tuple[Tensor, Sequence[Any], str, float | None]:
    return input, pad, mode, value


def trace_network(
    network: nn.Module,
    shape: Geometry,
    marked: Sequence[str] = (),
    plain: Sequence[str] = (),
    gather_padding: bool = False,
    exact: bool = False,
) -> ModelProto:
    """Traces a network in eval mode.

    Args:
        network: it computes the same afterwards.
        shape: its geometry.
        marked: names of quantizers that get a mark, see `marking`.
        plain: names of quantized layers whose input is not quantized, see `marking`.
        gather_padding: see `GatheredPadding`; ONNX Runtime takes longer for it.
        exact: see `marking`.

    Raises:
        CompSRTError: if PyTorch cannot export it.
    """
    sides = (shape.multiple * (-(-side // shape.multiple) | 1) for side in _SIDES)
    image = torch.rand(1, shape.channels, *sides, generator=torch.Generator().manual_seed(0))
    buffer: Any = io.BytesIO()  # the tracing exporter takes one, whatever its type says
    try:
        with (
            torch.no_grad(),
            warnings.catch_warnings(),
            GatheredPadding() if gather_padding else nullcontext(),
            _any_batch(),
            _no_dump(),
            _functions_inlined(),
            short_masks(network),
            marking(network, marked, plain, _Mark.apply, exact=exact),
        ):
            warnings.simplefilter('ignore')  # of tracing: the result is compared at other sizes instead
            torch.onnx.export(
                _AnySize(network, shape).eval(),  # else the exporter leaves the network in training mode
                (image,),
                buffer,
                dynamo=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={
                    INPUT: {0: 'batch', 2: 'height', 3: 'width'},
                    OUTPUT: {0: 'batch', 2: 'scaled_height', 3: 'scaled_width'},
                },
                opset_version=OPSET,
                do_constant_folding=False,  # engines do when they load the file, which is smaller so
                custom_opsets={MARKS: 1} if marked or quantized_layers(network) else {},  # it warns of unused ones
            )
    except CompSRTError:
        raise
    except Exception as error:  # of any kind: the code of the network is unknown
        if is_out_of_memory(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip('.')
        raise CompSRTError(f'{type(network).__name__} cannot be exported to ONNX ({reason}).') from error
    return onnx.load_from_string(buffer.getvalue())


@contextmanager
def _any_batch() -> Iterator[None]:
    """Replaces a function of BasicSR's SwinIR that makes a number of the batch size, which a trace would keep."""

    def window_reverse(windows: Tensor, window_size: int, h: Any, w: Any) -> Tensor:
        x = windows.view(-1, h // window_size, w // window_size, window_size, window_size, windows.shape[-1])
        return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, windows.shape[-1])

    module, name = sys.modules[SwinIR.__module__], 'window_reverse'
    before = getattr(module, name)
    setattr(module, name, window_reverse)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def _no_dump() -> Iterator[None]:
    """Keeps PyTorch from printing the graph of a network that it cannot export, thousands of lines."""
    module, name = torch._C, '_jit_onnx_log'
    before = getattr(module, name, None)
    setattr(module, name, lambda *_: None)
    try:
        yield
    finally:
        setattr(module, name, before)


class _Context:
    """What a forward of `torch.autograd.Function` writes, and nobody reads."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Does nothing, as the others."""

    mark_dirty = mark_non_differentiable = set_materialize_grads = save_for_backward


@contextmanager
def _functions_inlined() -> Iterator[None]:
    """Calls forwards of the network's own `torch.autograd.Function`s directly.

    PyTorch traces them as graphs of their own, and fails where they use values of the outer one, such as a mark.
    """
    original = vars(torch.autograd.Function)['apply']

    def apply(cls: Any, *args: Any) -> Any:
        if hasattr(cls, 'symbolic'):
            return original.__get__(None, cls)(*args)
        old = cls.setup_context is torch.autograd.Function.setup_context
        return cls.forward(_Context(), *args) if old else cls.forward(*args)

    torch.autograd.Function.apply = classmethod(apply)
    try:
        yield
    finally:
        torch.autograd.Function.apply = original


@contextmanager
def marking(
    network: nn.Module,
    marked: Sequence[str],
    plain: Sequence[str],
    mark: Callable[[Tensor, str, str], Tensor] | None = None,
    rounding: bool = True,
    layers: bool = True,
    exact: bool = False,
) -> Iterator[None]:
    """Changes inside the context what a quantized network computes to what a file computes.

    Quantizers that are not marked return their input, and products without marked quantizers have no transform. Layers
    in `plain` multiply with their quantized weight after the inverse transform, and leave their input alone.

    Args:
        network: the network.
        marked: names of the quantizers of activations that stay.
        plain: names of the layers whose input is not quantized.
        mark: puts a mark (tensor, kind, name) in a graph; None: nothing is marked, the network computes as the file.
        rounding: False: quantizers clip only.
        layers: False: quantized layers compute as before, with the transforms and equalizations that a file leaves out.
        exact: the network computes as before, by operators that a graph can have; `marked` and `plain` have no effect.
    """
    kept, alone = set(marked), set(plain)
    of_weights = {quantizer for layer in quantized_layers(network).values() for quantizer in layer.weight_quantizers()}
    replaced: list[tuple[nn.Module, str, Any]] = []

    def replace(module: nn.Module, attribute: str, value: Any) -> None:
        replaced.append((module, attribute, module._modules.get(attribute)))
        setattr(module, attribute, value)

    try:
        for name, module in list(network.named_modules()):
            inside = any(other.startswith(f'{name}.') for other in kept)
            if exact and isinstance(module, QuantizedLayer) and mark is not None:
                replace(module, 'quantized_weights', partial(_marked_weights, mark, name, module.quantized_weights()))
            elif exact and isinstance(module, Quantizer) and module not in of_weights:
                replace(module, 'forward', partial(_fake_quantize, module))
            elif exact:
                continue
            elif isinstance(module, QuantizedLayer):
                if layers:
                    replace(module, 'forward', _forward(module, name, name in alone, mark))
            elif isinstance(module, QuantProduct) and not inside:
                replace(module, 'forward', _plain_product)
            elif isinstance(module, QuantWindowAttention) and not _operands(name) & kept:
                for transform in ('head_transform', 'value_transform', 'key_transform'):
                    replace(module, transform, Transform('none', 1))
            elif module in of_weights:
                continue
            elif isinstance(module, Quantizer) and name not in kept:
                replace(module, 'forward', _unchanged)
            elif isinstance(module, Quantizer) and mark is not None:
                replace(module, 'forward', partial(_marked, mark, QUANTIZE, name))
            elif isinstance(module, Quantizer) and not rounding:
                replace(module, 'forward', partial(clip, module))
        yield
    finally:
        for module, attribute, before in replaced:
            if before is None:
                delattr(module, attribute)
            else:
                setattr(module, attribute, before)


def _operands(attention: str) -> set[str]:
    return {f'{attention}.{operand}_quantizer' for operand in ('q', 'k', 'v', 'attn')}


def _plain_product(operands: Operands) -> Tensor:
    return operands.multiply(operands.left, operands.right)


def _unchanged(x: Tensor) -> Tensor:
    return x


def _marked(mark: Callable[[Tensor, str, str], Tensor], kind: str, name: str, x: Tensor) -> Tensor:
    return mark(x, kind, name)


def _marked_weights(mark: Callable[[Tensor, str, str], Tensor], name: str, blocks: Sequence[Tensor]) -> list[Tensor]:
    return [mark(block.detach(), WEIGHT, f'{name}:{index}') for index, block in enumerate(blocks)]


def _fake_quantize(quantizer: Quantizer, x: Tensor) -> Tensor:
    """Computes `Quantizer.forward` by operators that a graph can have; Round is half to even, as in torch."""
    scale, zero = (value.detach() for value in quantizer.grid_on(x))
    if quantizer.code_range == 'paper':
        low, high = (float(bound) for bound in quantizer.bounds())
        return torch.round((x.clamp(low, high) - zero) / scale) * scale + zero
    return torch.round(((x - zero) / scale).clamp(0, quantizer.levels - 1)) * scale + zero


@torch.no_grad()
def file_weights(layer: QuantizedLayer, plain: bool) -> list[Tensor]:
    """Returns the quantized weights of a layer, one per part, as the graph multiplies with them.

    Linear layers have (n, O), convolutions (O, n, kh, kw), transposed ones (n, O / groups, kh, kw). With `plain`,
    transform and scale of the input are undone: n is d.
    """
    blocks = layer.quantized_weights()
    if plain:
        blocks = [layer.transform.invert(block.movedim(1, -1)).movedim(-1, 1) for block in blocks]
    if plain and layer.input_scale is not None:
        blocks = [block / spread(layer.input_scale, block) for block in blocks]
    transposed = isinstance(layer, (QuantLinear, QuantSplitLinear, QuantConvTranspose2d))
    return [(block.transpose(0, 1) if transposed else block).detach().contiguous() for block in blocks]


def _unshifted_bias(layer: QuantizedLayer, weights: Sequence[Tensor]) -> Tensor | None:
    """Returns the bias of a layer whose input is not shifted: zeros around an image are those of its own input."""
    if layer.input_shift is None or layer.bias is None:
        return layer.bias
    if isinstance(layer, QuantConv2d):
        (weight,) = weights
        shift = layer.input_shift.view(layer.groups, 1, -1, 1, 1)
        moved = (weight.view(layer.groups, -1, *weight.shape[1:]) * shift).sum((2, 3, 4)).flatten()
    else:
        moved = torch.cat([layer.input_shift @ weight for weight in weights])
    return layer.bias - moved


def _forward(
    layer: Any, name: str, plain: bool, mark: Callable[[Tensor, str, str], Tensor] | None
) -> Callable[[Tensor], Any]:
    """Returns a replacement for the `forward` of a layer. Layers that are not plain have no transform."""
    weights = file_weights(layer, plain)

    def weight(index: int) -> Tensor:
        return weights[index] if mark is None else mark(weights[index], WEIGHT, f'{name}:{index}')

    def linear(x: Tensor, index: int, bias: Tensor | None) -> Tensor:
        product = torch.matmul(x if plain else layer.act_quantizers()[index](x), weight(index))
        return product if bias is None else product + bias

    if isinstance(layer, QuantConvTranspose2d):  # at the border, fewer products count, so a shift is no bias
        shift = 0.0 if layer.input_shift is None else layer.input_shift[:, None, None]
        return lambda x: layer.convolve(x - shift if plain else layer.act_quantizer(x), weight(0))
    bias = _unshifted_bias(layer, weights)
    if isinstance(layer, QuantLinear):
        return lambda x: linear(x, 0, bias)
    if isinstance(layer, QuantSplitLinear):
        biases = [None] * len(weights) if bias is None else bias.chunk(len(weights))
        return lambda x: layer.gather([linear(x, index, biases[index]) for index in range(len(weights))])
    if layer.input_shift is None:
        return lambda x: layer.convolve(x if plain else layer.act_quantizer(x), weight(0))
    return lambda x: _convolve(layer, x, weight(0), bias)


def _convolve(layer: QuantConv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolves an input that is neither shifted nor scaled."""
    left, right, top, bottom = layer.border
    padding = (top, left) if (left, top) == (right, bottom) and layer.padding_mode == 'zeros' else (0, 0)
    if padding == (0, 0) and any(layer.border):
        x = F.pad(x, layer.border, 'constant' if layer.padding_mode == 'zeros' else layer.padding_mode)
    return layer.out_quantizer(F.conv2d(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups))
