"""The quantized tensors of a network: where each occurs, and along which dimension its product contracts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn

from compsrt_basicsr.archs.build_limit import Stored
from compsrt_basicsr.archs.rebuild import rebuild
from compsrt_basicsr.archs.state_dicts import without_recomputable_buffers
from compsrt_basicsr.archs.swinir_attention import QuantWindowAttention
from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.convolutions import QuantConv2d
from compsrt_basicsr.quant.layers import QuantizedLayer, QuantSplitLinear
from compsrt_basicsr.quant.quantizer import quantizers

WEIGHT, ACTIVATION = 'weight', 'activation'
_BLOCK = re.compile(r'^(layers\.\d+\.residual_group\.blocks\.\d+)\.')
# The options that decide which tensors are quantized.
_CHOICE = ('quantize_convs', 'quantize_head_tail', 'include', 'exclude', 'softmax', 'equalize', 'split')


@dataclass(frozen=True)
class QuantizedTensor:
    """One quantized tensor.

    Attributes:
        name: name of its quantizer in the network.
        kind: 'weight' or 'activation'.
        role: 'q', 'k', 'v', 'proj', 'fc1', 'fc2' for the weight or input of a layer, 'matmul_q' and so on for the
            operands of attention; the layer's name in other networks.
        depth: index of its block, from 0.
        axis: dimension along which its product contracts and it is transformed.
        order: d, the length of that dimension.
        same_as: name of an identical tensor, or None; q, k and v share their input.
        skipped: why it cannot be analysed, as a sentence, or None.
    """

    name: str
    kind: str
    role: str
    depth: int
    axis: int
    order: int
    same_as: str | None = None
    skipped: str | None = None

    def rows(self, tensor: Tensor) -> Tensor:
        """Returns the tensor as vectors along the contracted dimension, (M, d)."""
        return tensor.movedim(self.axis, -1).reshape(-1, self.order)


def quantizable_copy(loaded: LoadedNetwork) -> nn.Module:
    """Returns a copy of a network with full-precision weights and with quantizers, without a transform.

    Args:
        loaded: a full-precision SwinIR gets the quantizers of `CompSRTSwinIR`; a quantized network keeps its choice of
            layers.

    Raises:
        CompSRTError: if nothing in it can be quantized.
    """
    record = loaded.record
    arch = record['arch'] if record['quant'] else 'CompSRTSwinIR'
    chosen = {name: value for name, value in (record['quant'] or {}).items() if name in _CHOICE}
    state = without_recomputable_buffers(loaded.network.state_dict())
    owned = (*(f'{name}.' for name in quantizers(loaded.network)), 'quant_record.')
    state = {k: v for k, v in state.items() if not k.startswith(owned) and not k.endswith('.keep_mask')}
    plain = {'arch': arch, 'args': record['args'], 'quant': {**chosen, 'transform': 'none'}}
    network = rebuild(plain, Stored.of(state))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def quantized_tensors(network: nn.Module) -> list[QuantizedTensor]:
    """Lists all quantized tensors in the order of the network's definition.

    Args:
        network: a network of `quantizable_copy`.

    Raises:
        CompSRTError: if there are none.
    """
    found = [tensor for name, module in network.named_modules() for tensor in _of_module(name, module)]
    if not found:
        raise CompSRTError(f'{type(network).__name__} has no quantizers: there is nothing to analyse.')
    blocks: dict[str, int] = {}
    return [replace(tensor, depth=blocks.setdefault(_block(tensor.name), len(blocks))) for tensor in found]


def weights(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields the name of each weight quantizer and its weight, (O, d) or (O, d, kh, kw)."""
    names = {quantizer: name for name, quantizer in quantizers(network).items()}
    for layer in network.modules():
        if isinstance(layer, QuantizedLayer):
            parts = layer.weight_quantizers()
            yield from zip((names[part] for part in parts), layer.weight.detach().chunk(len(parts)))


def _of_module(name: str, module: nn.Module) -> Iterator[QuantizedTensor]:
    if isinstance(module, QuantWindowAttention):
        yield from _of_attention(name, module)
    elif isinstance(module, QuantSplitLinear):
        order = module.weight.shape[1]
        first = f'{name}.{module.parts[0]}.act_quantizer'
        for part in module.parts:
            yield QuantizedTensor(f'{name}.{part}.weight_quantizer', WEIGHT, part, 0, 1, order)
        for part in module.parts:
            own = f'{name}.{part}.act_quantizer'
            yield QuantizedTensor(own, ACTIVATION, part, 0, -1, order, None if own == first else first)
    elif isinstance(module, QuantizedLayer):
        conv = isinstance(module, QuantConv2d)
        grouped = isinstance(module, QuantConv2d) and module.groups > 1
        skipped = 'Grouped convolutions are quantized without a transform.' if grouped else None
        role, order = name.rpartition('.')[2], module.weight.shape[1]
        yield QuantizedTensor(f'{name}.weight_quantizer', WEIGHT, role, 0, 1, order, skipped=skipped)
        yield QuantizedTensor(f'{name}.act_quantizer', ACTIVATION, role, 0, 1 if conv else -1, order, skipped=skipped)


def _of_attention(name: str, attention: QuantWindowAttention) -> Iterator[QuantizedTensor]:
    """q k^T contracts the head dimension; attention times v the tokens, dimension 1 of v, (B, N, heads, d)."""
    tokens = attention.relative_position_index.shape[0]
    head_dim = attention.qkv.weight.shape[1] // attention.num_heads
    for operand, axis, order in (('q', -1, head_dim), ('k', -1, head_dim), ('v', 1, tokens), ('attn', -1, tokens)):
        yield QuantizedTensor(f'{name}.{operand}_quantizer', ACTIVATION, f'matmul_{operand}', 0, axis, order)


def _block(name: str) -> str:
    """Returns the name of the Swin block that a tensor belongs to, or of its layer."""
    match = _BLOCK.match(name)
    return match[1] if match else name.rpartition('.')[0]
