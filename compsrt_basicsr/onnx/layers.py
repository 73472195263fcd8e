"""ONNX emitters for layers. To support another layer, add a function with `@emits`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from basicsr.archs.arch_util import ResidualBlockNoBN
from torch import Tensor, nn

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx.graph import Graph
from compsrt_basicsr.packing.grids import needed_levels
from compsrt_basicsr.quant.layers import QuantConv2d, QuantizedLayer, QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.quantizer import Quantizer
from compsrt_basicsr.quant.transform import Transform

Emitter = Callable[[Graph, Any, str], str]
_EMITTERS: dict[type[nn.Module], Emitter] = {}


def emits(*kinds: type[nn.Module]) -> Callable[[Emitter], Emitter]:
    """Decorator that registers a function from graph, module and name of the input to the name of the output."""

    def register(emitter: Emitter) -> Emitter:
        _EMITTERS.update(dict.fromkeys(kinds, emitter))
        return emitter

    return register


def emit(graph: Graph, module: nn.Module, x: str) -> str:
    """Adds a module in eval mode to the graph.

    Raises:
        CompSRTError: if no emitter is registered for the type of the module.
    """
    for kind in type(module).__mro__:
        if kind in _EMITTERS and type(module).forward is kind.forward:
            return _EMITTERS[kind](graph, module, x)
    reason = getattr(module, 'onnx_obstacle', 'use a SwinIR or an EDSR, full-precision or quantized')
    raise CompSRTError(f'{type(module).__name__} cannot be exported to ONNX: {reason}.')


def add_bias(graph: Graph, x: str, bias: Tensor | None) -> str:
    """Adds b along the last dimension."""
    return x if bias is None else graph.op('Add', x, graph.const(bias))


def transform(graph: Graph, kind: Transform, x: str) -> str:
    """Transforms the last dimension, like `Transform.forward`."""
    return x if kind.matrix is None else graph.op('MatMul', x, graph.const(kind.matrix))


def equalize(graph: Graph, layer: QuantizedLayer, x: str, rank: int = 1) -> str:
    """Shifts and scales the channels, a dimension with `rank` - 1 others behind it, like `QuantizedLayer.equalized`."""
    if layer.input_shift is None or layer.input_scale is None:
        return x
    shift, scale = (graph.const(v.reshape(-1, *[1] * (rank - 1))) for v in (layer.input_shift, layer.input_scale))
    return graph.op('Div', graph.op('Sub', x, shift), scale)


def invert(graph: Graph, kind: Transform, x: str) -> str:
    """Inverts the transform of the last dimension, like `Transform.invert`."""
    return x if kind.matrix is None else graph.op('MatMul', x, graph.const(kind.matrix.T))


def project(graph: Graph, kind: Transform, x: str) -> str:
    """Applies the projection, like `Transform.project`."""
    return x if kind.projection is None else graph.op('MatMul', x, graph.const(kind.projection))


def fake_quantize(graph: Graph, quantizer: Quantizer | nn.Identity, x: str) -> str:
    """Fake-quantizes with the operations of quant/functional/affine.py; Round is half to even, as in torch."""
    if not isinstance(quantizer, Quantizer):
        return x
    scale, zero = (graph.const(value) for value in quantizer.grid())
    if quantizer.code_range == 'paper':
        x = graph.op('Clip', x, *(graph.const(bound) for bound in quantizer.bounds()))
    codes = graph.op('Div', graph.op('Sub', x, zero), scale)
    if quantizer.code_range == 'strict':
        codes = graph.op('Clip', codes, graph.const(0.0), graph.const(float(quantizer.levels - 1)))
    return graph.op('Add', graph.op('Mul', graph.op('Round', codes), scale), zero)


def weights(graph: Graph, layer: QuantizedLayer) -> list[str]:
    """Adds the blocks of the transformed weight, (O / blocks, n, ...), as codes or floats: see `reasons_for_floats`.

    In strict range, pruned coefficients need no mask: their code stands for 0.
    """
    if layer.config.operands == 'activations':
        return [graph.const(block) for block in layer.quantized_weights()]
    quantizers = layer.weight_quantizers()
    parts = zip(
        quantizers, layer.weight_codes().chunk(len(quantizers)), layer.quantized_weights(), reasons_for_floats(layer)
    )
    return [
        graph.const(values) if reason else graph.codes(*_from_zero_on(quantizer, codes))
        for quantizer, codes, values, reason in parts
    ]


def reasons_for_floats(layer: QuantizedLayer) -> list[str]:
    """Returns for each quantized block why its weight cannot be stored as codes of b bits; empty where it can."""
    if layer.config.operands == 'activations':
        return []
    quantizers = layer.weight_quantizers()
    if layer.config.code_range == 'strict':
        return [''] * len(quantizers)
    if layer.keep_mask is not None:
        return ['pruned in paper range, where no code stands for 0'] * len(quantizers)
    blocks = layer.weight_codes().chunk(len(quantizers))
    return ['more than 2^b levels' if needed_levels(q, x) > q.levels else '' for q, x in zip(quantizers, blocks)]


def _from_zero_on(quantizer: Quantizer, codes: Tensor) -> tuple[Tensor, int, Tensor, Tensor]:
    """Returns the arguments of `Graph.codes`; those of the paper range may have to be moved to 0 to 2^b - 1."""
    scale, zero = quantizer.grid()
    smallest, largest = codes.reshape(max(scale.numel(), 1), -1).aminmax(dim=1)
    moved = torch.where((smallest >= 0) & (largest < quantizer.levels), 0, smallest)
    rows = codes.reshape(len(moved), -1) - moved[:, None]
    return rows.view_as(codes), quantizer.bits, scale, zero + moved.view(scale.shape) * scale


@emits(nn.Linear)
def _linear(graph: Graph, layer: nn.Linear, x: str) -> str:
    return linear(graph, layer.weight, layer.bias, x)


def linear(graph: Graph, weight: Tensor, bias: Tensor | None, x: str) -> str:
    """Computes x W^T + b for a weight (O, d)."""
    return add_bias(graph, graph.op('MatMul', x, graph.const(weight.T)), bias)


@emits(QuantLinear)
def _quant_linear(graph: Graph, layer: QuantLinear, x: str) -> str:
    activation = fake_quantize(graph, layer.act_quantizer, transform(graph, layer.transform, equalize(graph, layer, x)))
    (weight,) = weights(graph, layer)
    return _product(graph, layer, activation, weight, layer.bias)


def split_linear(graph: Graph, layer: QuantSplitLinear, x: str) -> list[str]:
    """Adds a split linear layer; returns one output per part."""
    transformed = transform(graph, layer.transform, equalize(graph, layer, x))
    biases = [None] * len(layer.parts) if layer.bias is None else layer.bias.chunk(len(layer.parts))
    return [
        _product(graph, layer, fake_quantize(graph, quantizer, transformed), weight, bias)
        for quantizer, weight, bias in zip(layer.act_quantizers(), weights(graph, layer), biases)
    ]


def _product(graph: Graph, layer: QuantizedLayer, x: str, weight: str, bias: Tensor | None) -> str:
    columns = graph.op('Transpose', project(graph, layer.transform, weight), perm=(1, 0))
    return add_bias(graph, graph.op('MatMul', x, columns), bias)


@emits(nn.Conv2d)
def _conv(graph: Graph, layer: nn.Conv2d, x: str) -> str:
    return _convolve(graph, layer, x, graph.const(layer.weight))


@emits(QuantConv2d)
def _quant_conv(graph: Graph, layer: QuantConv2d, x: str) -> str:
    x = equalize(graph, layer, x, 3)
    if layer.transform.matrix is not None:
        x = graph.op('Conv', x, graph.const(layer.transform.matrix.T[:, :, None, None]))
    (weight,) = weights(graph, layer)
    if layer.transform.projection is not None:
        weight = graph.op('Conv', weight, graph.const(layer.transform.projection[:, :, None, None]))
    x = fake_quantize(graph, layer.act_quantizer, x)
    zero = layer.transformed_zero()
    if zero is not None and any(layer.border) and layer.padding_mode == 'zeros':
        left, right, top, bottom = layer.border
        moved = graph.op('Sub', x, graph.const(zero))
        x = graph.op('Pad', moved, graph.ints(0, 0, top, left, 0, 0, bottom, right))
        x = graph.op('Add', x, graph.const(zero))
    return fake_quantize(graph, layer.out_quantizer, _convolve(graph, layer, x, weight))


def _convolve(graph: Graph, layer: nn.Conv2d | QuantConv2d, x: str, weight: str) -> str:
    if layer.padding_mode != 'zeros':
        raise CompSRTError(
            f'A convolution with `padding_mode` {layer.padding_mode} cannot be exported to ONNX: use `zeros`.'
        )
    if isinstance(layer.padding, str):
        raise CompSRTError(f'A convolution with `padding` {layer.padding!r} cannot be exported to ONNX: use numbers.')
    bias = [] if layer.bias is None else [graph.const(layer.bias)]
    return graph.op(
        'Conv',
        x,
        weight,
        *bias,
        strides=tuple(layer.stride),
        pads=tuple(layer.padding) * 2,
        dilations=tuple(layer.dilation),
        group=layer.groups,
    )


@emits(nn.LayerNorm)
def _layer_norm(graph: Graph, layer: nn.LayerNorm, x: str) -> str:
    return graph.op('LayerNormalization', x, graph.const(layer.weight), graph.const(layer.bias), epsilon=layer.eps)


@emits(nn.Sequential)
def _sequential(graph: Graph, layers: nn.Sequential, x: str) -> str:
    for layer in layers:
        x = emit(graph, layer, x)
    return x


@emits(ResidualBlockNoBN)
def _residual_block(graph: Graph, block: ResidualBlockNoBN, x: str) -> str:
    inner = emit(graph, block.conv2, graph.op('Relu', emit(graph, block.conv1, x)))
    return graph.op('Add', x, graph.op('Mul', inner, graph.const(float(block.res_scale))))


@emits(nn.PixelShuffle)
def _pixel_shuffle(graph: Graph, layer: nn.PixelShuffle, x: str) -> str:
    return graph.op('DepthToSpace', x, blocksize=layer.upscale_factor, mode='CRD')


@emits(nn.LeakyReLU)
def _leaky_relu(graph: Graph, layer: nn.LeakyReLU, x: str) -> str:
    return graph.op('LeakyRelu', x, alpha=layer.negative_slope)


@emits(nn.GELU)
def _gelu(graph: Graph, layer: nn.GELU, x: str) -> str:
    """Computes x (1 + erf(x / sqrt 2)) / 2; the operator Gelu needs opset 20."""
    gate = graph.op('Add', graph.op('Erf', graph.op('Div', x, graph.const(math.sqrt(2)))), graph.const(1.0))
    return graph.op('Mul', graph.op('Mul', x, gate), graph.const(0.5))
