"""ONNX emitters for SwinIR and EDSR, full-precision and quantized."""

from __future__ import annotations

from basicsr.archs.edsr_arch import EDSR

from compsrt_basicsr.archs.swinir_attention import LEAST_ROW_SUM, QuantWindowAttention
from compsrt_basicsr.basicsr_compat.swinir import RSTB, SwinIR, SwinTransformerBlock, WindowAttention
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx.graph import Graph
from compsrt_basicsr.onnx.layers import (
    emit,
    emits,
    fake_quantize,
    invert,
    linear,
    project,
    split_linear,
    transform,
)
from compsrt_basicsr.onnx.windows import Windows, side

_HEADS_FIRST, _TRANSPOSED = (0, 1, 3, 2, 4), (0, 1, 3, 4, 2)


@emits(EDSR)
def _edsr(graph: Graph, network: EDSR, x: str) -> str:
    features = emit(graph, network.conv_first, _normalized(graph, network, x))
    body = emit(graph, network.conv_after_body, emit(graph, network.body, features))
    enlarged = emit(graph, network.upsample, graph.op('Add', body, features))
    return _denormalized(graph, network, emit(graph, network.conv_last, enlarged))


@emits(SwinIR)
def _swinir(graph: Graph, network: SwinIR, x: str) -> str:
    if network.ape:
        raise CompSRTError(
            'A SwinIR with `ape: true` cannot be exported to ONNX, because it accepts one image size only: use '
            '`ape: false`.'
        )
    image = _normalized(graph, network, x)
    shallow = emit(graph, network.conv_first, image)
    deep = _body(graph, network, shallow)
    features = graph.op('Add', emit(graph, network.conv_after_body, deep), shallow)
    if network.upsampler == 'pixelshuffledirect':
        result = emit(graph, network.upsample, features)
    elif network.upsampler == 'pixelshuffle':
        features = emit(graph, network.conv_before_upsample, features)
        result = emit(graph, network.conv_last, emit(graph, network.upsample, features))
    elif network.upsampler == 'nearest+conv':
        features = emit(graph, network.conv_before_upsample, features)
        for layer in (network.conv_up1,) if network.upscale == 2 else (network.conv_up1, network.conv_up2):
            features = emit(graph, network.lrelu, emit(graph, layer, _doubled(graph, features)))
        features = emit(graph, network.lrelu, emit(graph, network.conv_hr, features))
        result = emit(graph, network.conv_last, features)
    else:
        result = graph.op('Add', image, emit(graph, network.conv_last, features))
    return _denormalized(graph, network, result)


def _body(graph: Graph, network: SwinIR, features: str) -> str:
    """Adds the residual groups, (B, C, H, W) to the same shape."""
    height, width = side(graph, features, 2), side(graph, features, 3)
    tokens = _to_tokens(graph, features)
    if network.patch_norm:
        tokens = emit(graph, network.patch_embed.norm, tokens)
    for group in network.layers:
        tokens = _group(graph, group, tokens, height, width)
    return _to_image(graph, emit(graph, network.norm, tokens), height, width)


def _group(graph: Graph, group: RSTB, tokens: str, height: str, width: str) -> str:
    inner = tokens
    for block in group.residual_group.blocks:
        windows = Windows(graph, height, width, group.dim, block.window_size, block.shift_size)
        inner = _block(graph, block, inner, windows)
    inner = _to_tokens(graph, emit(graph, group.conv, _to_image(graph, inner, height, width)))
    return graph.op('Add', inner, tokens)


def _block(graph: Graph, block: SwinTransformerBlock, tokens: str, windows: Windows) -> str:
    attend = _quantized_attention if isinstance(block.attn, QuantWindowAttention) else _attention
    inside = windows.partition(emit(graph, block.norm1, tokens))
    tokens = graph.op('Add', tokens, windows.merge(attend(graph, block.attn, inside, windows.mask())))
    hidden = emit(graph, block.mlp.act, emit(graph, block.mlp.fc1, emit(graph, block.norm2, tokens)))
    return graph.op('Add', tokens, emit(graph, block.mlp.fc2, hidden))


def _attention(graph: Graph, attention: WindowAttention, x: str, mask: str | None) -> str:
    weight, bias = attention.qkv.weight.chunk(3), attention.qkv.bias
    biases = [None] * 3 if bias is None else bias.chunk(3)
    q, k, v = (_heads(graph, attention, linear(graph, w, b, x)) for w, b in zip(weight, biases))
    q = graph.op('Mul', q, graph.const(attention.scale))
    weights = graph.op('Softmax', _logits(graph, attention, q, k, mask), axis=-1)
    result = graph.op('MatMul', weights, graph.op('Transpose', v, perm=_HEADS_FIRST))
    return emit(graph, attention.proj, _joined(graph, result))


def _quantized_attention(graph: Graph, attention: QuantWindowAttention, x: str, mask: str | None) -> str:
    """Repeats the steps of `QuantWindowAttention.forward`."""
    head, value, key = attention.head_transform, attention.value_transform, attention.key_transform
    q, k, v = (_heads(graph, attention, part) for part in split_linear(graph, attention.qkv, x))
    q = graph.op('Mul', q, graph.const(attention.scale))
    q = fake_quantize(graph, attention.q_quantizer, transform(graph, head, q))
    k = project(graph, head, fake_quantize(graph, attention.k_quantizer, transform(graph, head, k)))
    v = invert(graph, value, fake_quantize(graph, attention.v_quantizer, transform(graph, value, v)))
    logits = _logits(graph, attention, q, k, mask)
    weights = _softmax_numerator(graph, logits) if attention.deferred else graph.op('Softmax', logits, axis=-1)
    weights = fake_quantize(graph, attention.attn_quantizer, transform(graph, key, weights))
    v = graph.op('Transpose', v, perm=_HEADS_FIRST)
    if key.matrix is not None:
        v = graph.op('MatMul', graph.const(key.matrix.T), v)
    result = graph.op('MatMul', weights, v)
    if attention.deferred:
        sums = graph.op('ReduceSum', weights, graph.ints(-1), keepdims=1)
        result = graph.op('Div', result, graph.op('Max', sums, graph.const(LEAST_ROW_SUM)))
    return emit(graph, attention.proj, _joined(graph, result))


def _softmax_numerator(graph: Graph, logits: str) -> str:
    """Computes `SoftmaxNumerator` of archs/swinir_attention.py."""
    graph.opset = max(graph.opset, 18)  # the first whose ReduceMax takes its axes as an input
    largest = graph.op('ReduceMax', logits, graph.ints(-1), keepdims=1)
    return graph.op('Exp', graph.op('Sub', logits, largest))


def _logits(graph: Graph, attention: WindowAttention | QuantWindowAttention, q: str, k: str, mask: str | None) -> str:
    """Computes q k^T with position bias and mask, (B, windows, heads, N, N)."""
    product = graph.op(
        'MatMul', graph.op('Transpose', q, perm=_HEADS_FIRST), graph.op('Transpose', k, perm=_TRANSPOSED)
    )
    table = graph.const(attention.relative_position_bias_table.T)
    bias = graph.op('Gather', table, graph.indices(attention.relative_position_index), axis=1)
    product = graph.op('Add', product, bias)
    return product if mask is None else graph.op('Add', product, mask)


def _heads(graph: Graph, attention: WindowAttention | QuantWindowAttention, x: str) -> str:
    """Splits (B, windows, N, C) into (B, windows, N, heads, C / heads)."""
    return graph.op('Reshape', x, graph.ints(0, 0, 0, attention.num_heads, -1))


def _joined(graph: Graph, x: str) -> str:
    """Joins (B, windows, heads, N, C / heads) to (B, windows, N, C)."""
    return graph.op('Reshape', graph.op('Transpose', x, perm=_HEADS_FIRST), graph.ints(0, 0, 0, -1))


def _to_tokens(graph: Graph, x: str) -> str:
    """Reshapes (B, C, H, W) to (B, H W, C)."""
    return graph.op('Transpose', graph.op('Reshape', x, graph.ints(0, 0, -1)), perm=(0, 2, 1))


def _to_image(graph: Graph, x: str, height: str, width: str) -> str:
    """Reshapes (B, H W, C) to (B, C, H, W)."""
    shape = graph.op('Concat', graph.ints(0, -1), height, width, axis=0)
    return graph.op('Reshape', graph.op('Transpose', x, perm=(0, 2, 1)), shape)


def _doubled(graph: Graph, x: str) -> str:
    """Doubles height and width by nearest neighbour."""
    return graph.op(
        'Resize',
        x,
        '',
        graph.const([1.0, 1.0, 2.0, 2.0]),
        mode='nearest',
        coordinate_transformation_mode='asymmetric',
        nearest_mode='floor',
    )


def _normalized(graph: Graph, network: SwinIR | EDSR, x: str) -> str:
    return graph.op('Mul', graph.op('Sub', x, graph.const(network.mean)), graph.const(float(network.img_range)))


def _denormalized(graph: Graph, network: SwinIR | EDSR, x: str) -> str:
    return graph.op('Add', graph.op('Div', x, graph.const(float(network.img_range))), graph.const(network.mean))
