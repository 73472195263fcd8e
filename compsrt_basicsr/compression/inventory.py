"""What a scheme quantizes in a network, what stays in floating point and why, before anything is done."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from glob import escape
from typing import Any

from torch import nn

from compsrt_basicsr.archs.compsrt_net_arch import quantize_network_
from compsrt_basicsr.archs.compsrt_swinir_arch import quantize_swinir_
from compsrt_basicsr.archs.swinir_attention import QuantWindowAttention
from compsrt_basicsr.basicsr_compat.swinir import SwinIR
from compsrt_basicsr.checkpoints.load import QUANTIZED, LoadedNetwork
from compsrt_basicsr.compression.scheme import quant_options
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError, shown
from compsrt_basicsr.quant.layers import QuantizedLayer, quantized_layers
from compsrt_basicsr.quant.prepare import make_attention_plain_, make_weights_plain_
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.record import decode_record
from compsrt_basicsr.quant.structure import Tracing, trace

PRODUCTS = '.quant_products.'
WITH_WEIGHTS = 'product with weights'
_SIDE = 32  # pixels of the traced image, at least
_FUNCTIONAL = '.functional'  # as `Tracing.multiplications` names them
_GRID = 8  # bytes of scale and zero
_FLOAT, _HALF = 4, 2  # bytes of a number in full precision, and in a packed file


@dataclass(frozen=True)
class Part:
    """A layer, a product of activations, or all else.

    Attributes:
        name: dotted name; for a product that of the module that computes it.
        kind: such as 'conv 3x3', 'linear', 'product'.
        bits: of weight and input, or of both operands; None in floating point.
        reason: why it stays in floating point; '' where it does not.
        multiplications: for the traced image.
        before, after: bytes of its weights in full precision, and at most in the packed file.
    """

    name: str
    kind: str
    bits: tuple[int, int] | None
    reason: str
    multiplications: int
    before: float
    after: float


@dataclass(frozen=True)
class Inventory:
    """All parts of a network, in the order in which they run.

    Attributes:
        parts: the parts; the last one is all that is no weight.
        pixels: of the traced image.
    """

    parts: tuple[Part, ...]
    pixels: int

    @property
    def multiplications(self) -> int:
        """Of linears, convolutions and products of activations, for the traced image."""
        return sum(part.multiplications for part in self.parts)

    @property
    def low_bit_share(self) -> float:
        """Share of the multiplications both of whose operands are quantized."""
        low = sum(part.multiplications for part in self.parts if part.bits is not None)
        return low / max(self.multiplications, 1)

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the multiplications by the bits of their operands, such as `w4a4`, the largest first."""
        shares: dict[str, float] = {}
        for part in self.parts:
            if part.multiplications:
                text = _bits_text(part.kind, part.bits)
                shares[text] = shares.get(text, 0.0) + part.multiplications / self.multiplications
        return dict(sorted(shares.items(), key=lambda item: -item[1]))


def traced(loaded: LoadedNetwork) -> Tracing:
    """Returns what a full-precision network computes.

    Raises:
        CompSRTError: if it is no network from images to images of any size.
    """
    multiple = loaded.multiple
    first = -(-_SIDE // multiple) * multiple
    usual = first, first + -(-_SIDE // 2 // multiple) * multiple
    return trace(_plain(loaded.network), loaded.channels, getattr(loaded.network, 'sides', usual))


def _plain(network: nn.Module) -> nn.Module:
    network = deepcopy(network)
    make_weights_plain_(network)
    make_attention_plain_(network)
    return network


def layer_names(tracing: Tracing) -> list[str]:
    """Returns the linears and convolutions in the order in which they run."""
    return [name for name in tracing.multiplications if PRODUCTS not in name and not name.endswith(_FUNCTIONAL)]


def make_student(
    loaded: LoadedNetwork,
    bits: tuple[int, int],
    tracing: Tracing,
    keep: Sequence[str] = (),
    engines: Sequence[str] = (),
    raised: Sequence[str] = (),
) -> LoadedNetwork:
    """Returns a quantized copy of a network, not calibrated.

    Args:
        loaded: the full-precision network.
        bits: of weights and activations.
        tracing: of the network.
        keep: name patterns of what stays in floating point.
        engines: 'onnx', 'openvino': those that get a file.
        raised: name patterns of layers with more bits, see `quant_options`.

    Raises:
        CompSRTError: if nothing is left to quantize, or a pattern matches nothing.
    """
    _check_patterns(keep, tracing)
    network = deepcopy(loaded.network)
    options = quant_options(bits, layer_names(tracing), keep, engines, has_kernels(loaded), raised)
    config = QuantConfig.from_opt(options)
    if isinstance(network, SwinIR):
        quantize_swinir_(network, config, loaded.record['args'])
    else:
        quantize_network_(network, config, {'type': loaded.record['arch'], **loaded.record['args']})
    network = network.to(next(loaded.network.parameters()).device).eval().requires_grad_(False)
    record = decode_record(network.get_buffer('quant_record.json'))
    return LoadedNetwork(network, loaded.scale, loaded.multiple, loaded.channels, QUANTIZED, loaded.source, record)


def raisable(loaded: LoadedNetwork, tracing: Tracing) -> dict[str, int]:
    """Returns the multiplications of the layers, and of the products of each module, that may get more bits.

    Integer kernels compute linears and attention of a network with the same bits, so there only convolutions may.
    """
    kernels = has_kernels(loaded)
    modules = dict(loaded.network.named_modules())
    found: dict[str, int] = {}
    for key, count in tracing.multiplications.items():
        name = key.partition(PRODUCTS)[0]
        if not key.endswith(_FUNCTIONAL) and not (kernels and not hasattr(modules[name], 'kernel_size')):
            found[name] = found.get(name, 0) + count
    return found


def patterns_of(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Returns name patterns that match `names` and none of `others`, as few as names with `*` for numbers give."""
    found: list[str] = []
    for name in names:
        if not any(fnmatchcase(name, pattern) for pattern in found):
            wide = grouped(name)
            found.append(escape(name) if any(fnmatchcase(other, wide) for other in others) else wide)
    return found


def take_inventory(
    network: nn.Module, student: nn.Module, tracing: Tracing, keep: Sequence[str], spared: Sequence[str] = ()
) -> Inventory:
    """Lists the parts of a network.

    Args:
        network: in full precision.
        student: its quantized copy.
        tracing: of the network.
        keep: name patterns of what stays in floating point.
        spared: those of what measurement keeps there.
    """
    reasons = {**dict.fromkeys(spared, 'costs most in 8 bits'), **{each: f'--keep-float {each}' for each in keep}}
    network = _plain(network)
    layers, modules, plain = quantized_layers(student), dict(student.named_modules()), dict(network.named_modules())
    parts = []
    for key, count in [*tracing.multiplications.items(), *((name, 0) for name in tracing.structure.unused)]:
        name, _, index = key.partition(PRODUCTS)
        if key.endswith(_FUNCTIONAL):
            reason = 'no quantized form of this function'
            parts.append(Part(key.removesuffix(_FUNCTIONAL), 'functional', None, reason, count, 0, 0))
        elif index:
            parts.append(_product(name, int(index), count, modules.get(name), tracing, reasons))
        else:
            parts.append(_layer(name, count, plain[name], layers.get(name), tracing, reasons))
    weights = sum(part.before for part in parts) / _FLOAT
    rest = sum(p.numel() for p in network.parameters()) - weights
    parts.append(Part('biases, norms and other parameters', '', None, '', 0, _FLOAT * rest, _HALF * rest))
    grids = sum(max(quantizer.lower.numel(), 1) for quantizer in quantizers(student).values())
    parts.append(Part('grids of the quantizers', '', None, '', 0, 0, _GRID * grids))
    return Inventory(tuple(parts), tracing.pixels)


def _layer(
    name: str, count: int, module: nn.Module, layer: QuantizedLayer | None, tracing: Tracing, reasons: Mapping[str, str]
) -> Part:
    weight = getattr(module, 'weight', None)
    numbers = weight.numel() if weight is not None else 0
    if layer is not None:
        bits = layer.weight_quantizers()[0].bits, layer.config.act_bits
        return Part(name, _kind(module), bits, '', count, _FLOAT * numbers, numbers * bits[0] / 8)
    pattern = _matching(name, reasons)
    if pattern is not None:
        reason = reasons[pattern]
    elif not tracing.calls[name]:
        reason = 'does not run'
    else:
        reason = f'no quantized form of {type(module).__name__}'
    return Part(name, _kind(module), None, reason, count, _FLOAT * numbers, _HALF * numbers)


def _product(name: str, index: int, count: int, module: Any, tracing: Tracing, reasons: Mapping[str, str]) -> Part:
    bits = None
    if isinstance(module, QuantWindowAttention):
        bits = _operand_bits(quantizers(module).values())
    elif hasattr(module, 'quant_products') and index < len(module.quant_products):
        product = module.quant_products[index]
        bits = _operand_bits(quantizers(product).values())
        if product.kind.constant is not None:
            sides = product.left_quantizer.bits, product.right_quantizer.bits
            bits = sides if product.kind.constant == 'left' else sides[::-1]
            return Part(name, WITH_WEIGHTS, bits, '', count, 0, 0)
    if bits is not None:
        return Part(name, 'product', bits, '', count, 0, 0)
    pattern = _matching(name, reasons)
    varies = name not in tracing.structure.products
    reason = 'varies with the size of the image' if varies else reasons[pattern] if pattern else 'no adapter'
    return Part(name, 'product', None, reason, count, 0, 0)


def _operand_bits(found: Iterable[Any]) -> tuple[int, int]:
    bits = [quantizer.bits for quantizer in found]
    return min(bits), max(bits)


def _kind(module: Any) -> str:
    if not hasattr(module, 'kernel_size'):
        return 'linear'
    size = 'x'.join(map(str, module.kernel_size))
    kind = 'transposed conv' if 'Transpose' in type(module).__name__ else 'conv'
    groups = getattr(module, 'groups', 1)
    if groups == 1:
        return f'{kind} {size}'
    return f'depthwise {kind} {size}' if groups == module.in_channels else f'{kind} {size} in {groups} groups'


def _matching(name: str, patterns: Iterable[str]) -> str | None:
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)


def _check_patterns(patterns: Sequence[str], tracing: Tracing) -> None:
    names = [*layer_names(tracing), *tracing.structure.products, *tracing.structure.unused]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, {grouped(name) for name in names} | set(names), 1, 0.4)
            hint = f' Did you mean `{near[0]}`?' if near else ''
            raise CompSRTError(f'`--keep-float` {shown(pattern)} matches no layer; `--list` shows their names.{hint}')


def grouped(name: str) -> str:
    """Returns a name with `*` for its numbers, a pattern that also matches its siblings."""
    return re.sub(r'(?<![^.])\d+(?![^.])|\d+', '*', name)


def inventory_table(inventory: Inventory) -> str:
    """Returns the parts as a table, those of one kind and one name but for numbers together."""
    from tabulate import tabulate

    groups: dict[tuple[Any, ...], list[Part]] = {}
    for part in inventory.parts:
        groups.setdefault((grouped(part.name), part.kind, part.bits, part.reason), []).append(part)
    rows = []
    for (name, kind, bits, reason), parts in groups.items():
        share = sum(part.multiplications for part in parts) / max(inventory.multiplications, 1)
        rows.append(
            [
                name,
                kind,
                len(parts) if kind else '',
                _bits_text(kind, bits),
                f'{share:.1%}' if kind else '',
                *(f'{sum(getattr(part, side) for part in parts):,.0f}' for side in ('before', 'after')),
                reason,
            ]
        )
    totals = (f'{sum(getattr(part, side) for part in inventory.parts):,.0f}' for side in ('before', 'after'))
    rows.append(['total', '', '', '', '100.0%', *totals, f'{inventory.low_bit_share:.1%} low-bit'])
    heads = ['part', 'kind', 'number', 'bits', 'multiplications', 'bytes before', 'bytes after', 'why float']
    align = ('left', 'left', 'right', 'left', 'right', 'right', 'right', 'left')
    return tabulate(rows, heads, disable_numparse=True, colalign=align)


def _bits_text(kind: str, bits: tuple[int, int] | None) -> str:
    if bits is None:
        return 'float' if kind else ''
    if kind == 'product':
        return ' '.join(f'a{each}' for each in sorted(set(bits)))
    return f'w{bits[0]}a{bits[1]}'


def has_kernels(loaded: LoadedNetwork) -> bool:
    """Returns whether a network's quantized form runs on integer codes."""
    return isinstance(loaded.network, SwinIR)
