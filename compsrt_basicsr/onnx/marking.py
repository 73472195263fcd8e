"""What a quantized network computes in a file, with marks where its quantizers and quantized weights are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.archs.swinir_attention import QuantWindowAttention
from compsrt_basicsr.onnx.check import clip
from compsrt_basicsr.quant.convolutions import QuantConv2d, QuantConvTranspose2d
from compsrt_basicsr.quant.layers import QuantizedLayer, QuantLinear, QuantSplitLinear, quantized_layers
from compsrt_basicsr.quant.products import Operands, QuantProduct
from compsrt_basicsr.quant.quantizer import Quantizer
from compsrt_basicsr.quant.transform import Transform, spread

MARKS = 'compsrt'  # domain of the marks in a traced graph
QUANTIZE, WEIGHT = 'Quantize', 'Weight'


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
