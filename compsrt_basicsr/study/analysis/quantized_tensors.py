"""Which tensors of a network are quantized: where each is met, and along which dimension its product contracts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn

from compsrt_basicsr.archs.rebuild import rebuild
from compsrt_basicsr.archs.state_dicts import without_recomputable_buffers
from compsrt_basicsr.archs.swinir_attention import QuantWindowAttention
from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.layers import QuantConv2d, QuantizedLayer, QuantSplitLinear
from compsrt_basicsr.quant.quantizer import quantizers

WEIGHT, ACTIVATION = 'weight', 'activation'
_BLOCK = re.compile(r'^(layers\.\d+\.residual_group\.blocks\.\d+)\.')
# Which tensors there are; what else a network is quantized with plays no part.
_CHOICE = ('quantize_convs', 'quantize_head_tail', 'include', 'exclude', 'softmax')


@dataclass(frozen=True)
class Site:
    """One quantized tensor.

    Attributes:
        name: of its quantizer in the network.
        kind: 'weight' or 'activation'.
        role: 'q', 'k', 'v', 'proj', 'fc1', 'fc2' for a layer's weight or input; 'matmul_q' and so on for operands of
            attention; in other networks the layer's own name.
        depth: number of its block, from 0.
        axis: dimension of the tensor along which its product contracts, and it is transformed.
        order: d, the length of that dimension.
        same_as: name of the tensor that it is the same as: q, k and v share their input.
        fault: why it cannot be analysed, as a sentence, or None.
    """

    name: str
    kind: str
    role: str
    depth: int
    axis: int
    order: int
    same_as: str | None = None
    fault: str | None = None

    def rows(self, tensor: Tensor) -> Tensor:
        """The tensor as vectors along the contracted dimension, (M, d)."""
        return tensor.movedim(self.axis, -1).reshape(-1, self.order)


def quantizable_copy(loaded: LoadedNetwork) -> nn.Module:
    """The network of a file with full-precision weights, quantizers where it has or would have them, no transform.

    Args:
        loaded: full-precision SwinIR gets the quantizers of `CompSRTSwinIR`; a quantized network keeps its choice of
            layers.

    Raises:
        CompSRTError: nothing in it can be quantized.
    """
    record = loaded.record
    arch = record['arch'] if record['quant'] else 'CompSRTSwinIR'
    chosen = {name: value for name, value in (record['quant'] or {}).items() if name in _CHOICE}
    state = without_recomputable_buffers(loaded.network.state_dict())
    owned = (*(f'{name}.' for name in quantizers(loaded.network)), 'quant_record.')
    state = {k: v for k, v in state.items() if not k.startswith(owned) and not k.endswith('.keep_mask')}
    plain = {'arch': arch, 'args': record['args'], 'quant': {**chosen, 'transform': 'none'}}
    network = rebuild(plain, sum(value.numel() for value in state.values()))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def sites(network: nn.Module) -> list[Site]:
    """All quantized tensors, in the order of the network's definition.

    Args:
        network: from `quantizable_copy`.

    Raises:
        CompSRTError: there are none.
    """
    found = [site for name, module in network.named_modules() for site in _of_module(name, module)]
    if not found:
        raise CompSRTError(f'{type(network).__name__} has no quantizers: there is nothing to analyse.')
    blocks: dict[str, int] = {}
    return [replace(site, depth=blocks.setdefault(_block(site.name), len(blocks))) for site in found]


def weights(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields the name of each weight quantizer and what it quantizes: (O, d) or (O, d, kh, kw)."""
    names = {quantizer: name for name, quantizer in quantizers(network).items()}
    for layer in network.modules():
        if isinstance(layer, QuantizedLayer):
            parts = layer.weight_quantizers()
            yield from zip((names[part] for part in parts), layer.weight.detach().chunk(len(parts)))


def _of_module(name: str, module: nn.Module) -> Iterator[Site]:
    if isinstance(module, QuantWindowAttention):
        yield from _of_attention(name, module)
    elif isinstance(module, QuantSplitLinear):
        order = module.weight.shape[1]
        first = f'{name}.{module.parts[0]}.act_quantizer'
        for part in module.parts:
            yield Site(f'{name}.{part}.weight_quantizer', WEIGHT, part, 0, 1, order)
        for part in module.parts:
            own = f'{name}.{part}.act_quantizer'
            yield Site(own, ACTIVATION, part, 0, -1, order, None if own == first else first)
    elif isinstance(module, QuantizedLayer):
        conv = isinstance(module, QuantConv2d)
        grouped = conv and module.groups > 1
        fault = 'It belongs to a convolution in groups, which is quantized without a transform.' if grouped else None
        role, order = name.rpartition('.')[2], module.weight.shape[1]
        yield Site(f'{name}.weight_quantizer', WEIGHT, role, 0, 1, order, fault=fault)
        yield Site(f'{name}.act_quantizer', ACTIVATION, role, 0, 1 if conv else -1, order, fault=fault)


def _of_attention(name: str, attention: QuantWindowAttention) -> Iterator[Site]:
    """q k^T contracts the head dimension; attention times v the tokens, dimension 1 of v, (B, N, heads, d)."""
    tokens = attention.relative_position_index.shape[0]
    head_dim = attention.qkv.weight.shape[1] // attention.num_heads
    for operand, axis, order in (('q', -1, head_dim), ('k', -1, head_dim), ('v', 1, tokens), ('attn', -1, tokens)):
        yield Site(f'{name}.{operand}_quantizer', ACTIVATION, f'matmul_{operand}', 0, axis, order)


def _block(name: str) -> str:
    """The Swin block that a tensor belongs to, or its layer."""
    match = _BLOCK.match(name)
    return match[1] if match else name.rpartition('.')[0]
