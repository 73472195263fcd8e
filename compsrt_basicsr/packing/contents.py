"""The contents of a packed file: collected from a network, and restored into one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.archs.build_limit import Stored
from compsrt_basicsr.archs.rebuild import check_run, rebuild
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing.grids import code_of_zero, needed_levels, possible_levels, read_grid, set_grid
from compsrt_basicsr.quant.layers import QuantizedLayer, quantized_layers
from compsrt_basicsr.quant.merging import merged
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers
from compsrt_basicsr.quant.record import decode_record

_NAMED = 8  # quantizers that a message names


@dataclass(frozen=True)
class Layer:
    """The weight of one quantized layer.

    Attributes:
        name: dotted name.
        bits: b.
        quantizers: dotted names of the quantizers of its blocks of rows, from the top.
        codes: (O, n) or (O, n, kh, kw) integers; within 2^b neighbouring values for each grid.
        keep: bool of that shape, False where a coefficient is pruned; None where nothing is.
    """

    name: str
    bits: int
    quantizers: tuple[str, ...]
    codes: Tensor
    keep: Tensor | None = None


@dataclass(frozen=True)
class Contents:
    """A quantized network as data.

    Attributes:
        record: `arch`, `args` and `quant`.
        layers: the quantized weights.
        grids: (2 or 4, C) float32 for each quantizer, see `packing.grids`.
        rest: all other parameters and buffers.
    """

    record: dict[str, Any]
    layers: list[Layer]
    grids: dict[str, Tensor]
    rest: dict[str, Tensor]

    @property
    def strict(self) -> bool:
        """True for codes that are clamped to b bits."""
        return self.record['quant'].get('code_range', 'strict') == 'strict'

    @property
    def pruned(self) -> bool:
        """True where a layer has a mask."""
        return any(layer.keep is not None for layer in self.layers)


@torch.no_grad()
def collect(network: nn.Module) -> Contents:
    """Collects codes, grids and the rest of a calibrated network; the weights take up its corrections in a copy.

    Raises:
        CompSRTError: if the network or its weights are not quantized or not calibrated, or some of its quantizers
            exceed b bits, which the paper range allows.
    """
    network = merged(network)
    record = getattr(network, 'quant_record', None)
    if record is None:
        raise CompSRTError('The network is not quantized, so there are no codes to pack: quantize it first.')
    if decode_record(record.json)['quant'].get('operands') == 'activations':
        raise CompSRTError('Only activations are quantized here (`operands: activations`): there are no codes to pack.')
    found = quantizers(network)
    grids = {name: read_grid(quantizer) for name, quantizer in found.items()}
    names = {quantizer: name for name, quantizer in found.items()}
    layers = [_layer(name, layer, names) for name, layer in quantized_layers(network).items()]
    _refuse_wide(found, layers)
    rest = {name: value.detach().cpu() for name, value in _rest(network).items()}
    return Contents(decode_record(record.json), layers, grids, rest)


@torch.no_grad()
def restore(contents: Contents) -> nn.Module:
    """Builds the network of some contents, in eval mode and without gradients; it computes from the codes.

    Raises:
        CompSRTError: if the contents do not fit the architecture of their record.
    """
    network = rebuild(contents.record, _stored(contents))
    found, layers, rest = quantizers(network), quantized_layers(network), _rest(network)
    contents = _without_aliases(contents, rest, network)
    _check_names(contents, found, layers, rest)
    for name, rows in contents.grids.items():
        if max(found[name].lower.numel(), 1) != rows.shape[1]:
            raise _misfit(name)
        set_grid(found[name], rows)
    names = {quantizer: name for name, quantizer in found.items()}
    for name, value in contents.rest.items():  # with the scales of channels that the weights are divided by
        if rest[name].shape != value.shape:
            raise _misfit(name)
        rest[name].copy_(value)
    for packed in contents.layers:
        _restore_layer(layers[packed.name], packed, names)
    check_run(network.requires_grad_(False), contents.record)
    return network


def _stored(contents: Contents) -> Stored:
    plain = sum(part.numel() for part in (*contents.rest.values(), *contents.grids.values()))
    numbers = plain + sum(layer.codes.numel() for layer in contents.layers)
    return Stored(len(contents.rest) + len(contents.grids) + len(contents.layers), numbers, plain)


def _restore_layer(layer: QuantizedLayer, packed: Layer, names: Mapping[Quantizer, str]) -> None:
    keep = getattr(layer, 'keep_mask', None)
    if layer.transformed_shape != packed.codes.shape or (keep is None) != (packed.keep is None):
        raise _misfit(packed.name)
    parts = layer.weight_quantizers()
    if tuple(names[part] for part in parts) != packed.quantizers or {part.bits for part in parts} != {packed.bits}:
        raise _misfit(packed.name)
    if keep is not None:
        keep.copy_(packed.keep)
    layer.fix_codes(packed.codes)


def _layer(name: str, layer: QuantizedLayer, names: Mapping[Quantizer, str]) -> Layer:
    parts = layer.weight_quantizers()
    codes, keep = layer.weight_codes().cpu(), getattr(layer, 'keep_mask', None)
    if keep is not None:
        _check_pruned(name, codes, keep.cpu(), parts)
    return Layer(
        name,
        parts[0].bits,
        tuple(names[quantizer] for quantizer in parts),
        codes,
        None if keep is None else keep.cpu().clone(),
    )


def _check_pruned(name: str, codes: Tensor, keep: Tensor, parts: list[Quantizer]) -> None:
    for block, mask, quantizer in zip(codes.chunk(len(parts)), keep.chunk(len(parts)), parts):
        if not bool(((block.flatten(1) == code_of_zero(quantizer)) | mask.flatten(1)).all()):
            raise CompSRTError(f'Pruned weights of `{name}` are not zero: prune the network again before packing.')


def _refuse_wide(found: Mapping[str, Quantizer], layers: list[Layer]) -> None:
    """Raises CompSRTError with those quantizers that give, or could give, more than 2^b codes.

    The codes of weights are counted; those of activations, whose data are unknown, are bounded.
    """
    levels = {}
    for layer in layers:
        for name, block in zip(layer.quantizers, layer.codes.chunk(len(layer.quantizers))):
            levels[name] = needed_levels(found[name], block)
    for name, quantizer in found.items():
        levels.setdefault(name, possible_levels(quantizer))
    if wide := {name: count for name, count in levels.items() if count > found[name].levels}:
        named = list(wide.items())[:_NAMED]
        shown = ', '.join(f'`{name}` ({count:,} levels instead of {found[name].levels})' for name, count in named)
        more = f' and {len(wide) - _NAMED} more quantizers' if len(wide) > _NAMED else ''
        raise CompSRTError(
            f'{len(wide)} of {len(levels)} quantizers exceed b bits, as the paper range allows: {shown}{more}. '
            'Only 2^b levels can be packed: train with `code_range: strict`.'
        )


def _rest(network: nn.Module) -> dict[str, Tensor]:
    """Returns the state that belongs to no quantizer, quantized weight, mask or record; what has two names, once."""
    state = network.state_dict(keep_vars=True)
    owned = (*(f'{name}.' for name in quantizers(network)), 'quant_record.')
    weights = {f'{name}.{part}' for name in quantized_layers(network) for part in ('weight', 'keep_mask')}
    seen = {id(value) for key, value in state.items() if key.startswith(owned) or key in weights}
    rest = {}
    for key, value in state.items():
        if id(value) not in seen:
            rest[key] = value.detach()
            seen.add(id(value))
    return rest


def _without_aliases(contents: Contents, rest: Mapping[str, Tensor], network: nn.Module) -> Contents:
    """Drops what files of earlier versions hold under a second name too."""
    aliases = network.state_dict().keys() - rest.keys()
    return replace(contents, rest={name: value for name, value in contents.rest.items() if name not in aliases})


def _check_names(contents: Contents, *built: Mapping[str, Any]) -> None:
    packed: tuple[Mapping[str, Any], ...] = (
        contents.grids,
        {layer.name: layer for layer in contents.layers},
        contents.rest,
    )
    for theirs, mine in zip(packed, built):
        if differing := theirs.keys() ^ mine.keys():
            raise _misfit(min(differing))


def _misfit(name: str) -> CompSRTError:
    return CompSRTError(
        f'The packed network does not fit its architecture in `{name}`: use the version of compsrt_basicsr that '
        'made the file, or make it again.'
    )
