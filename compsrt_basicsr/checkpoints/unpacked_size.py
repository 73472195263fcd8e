"""What a checkpoint or a full-precision file stores and what it would need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compsrt_basicsr.archs.state_dicts import RECOMPUTABLE
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.checkpoints.read import read_safetensors
from compsrt_basicsr.packing.grids import needed_levels
from compsrt_basicsr.packing.size import BUFFERS, FILE, GRIDS, REST, WEIGHTS, Account, Part, paper_bits, usual_bits
from compsrt_basicsr.quant.layers import QuantizedLayer, quantized_layers
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.utils.torch_io import read_checkpoint


def measure_unpacked(path: Path) -> Account:
    """Takes the account of a checkpoint or a full-precision file.

    Args:
        path: the file.

    Raises:
        CompSRTError: if the file cannot be read, or no network can be built from it.
    """
    network = load_network(path).network
    tensors = list(_tensors(read_safetensors(path) if path.suffix == '.safetensors' else read_checkpoint(path)))
    found, layers = quantizers(network), _layers(network)
    sizes = _stored(tensors, tuple(f'{name}.' for name in found), {f'{name}.weight' for name in layers})
    quantized, rest = _parameters(network)
    keeps = [keep for layer in layers.values() if (keep := getattr(layer, 'keep_mask', None)) is not None]
    pruned = sum(int((~keep).sum()) for keep in keeps) / sum(keep.numel() for keep in keeps) if keeps else 0.0
    counts = [(q.bits, layer.weight.numel()) for layer in layers.values() for q in layer.weight_quantizers()[:1]]
    bits = usual_bits(counts) if counts else None
    mixed = sum(size * paper_bits(b, pruned) for b, size in counts) / max(sum(size for _, size in counts), 1)
    codes = sum(layer.transformed_weight().numel() for layer in layers.values())
    widths = list(_widths(layers.values()))
    mean_width = sum(size * width for size, width, _ in widths) / codes if widths else 0.0
    width = 2 if all(value.itemsize == 2 for _, value in tensors) else 4
    each = paper_bits(mean_width, pruned) if widths else mixed
    parts = [
        Part(WEIGHTS, quantized, codes * each / 8, sizes[WEIGHTS]),
        Part(GRIDS, 0, 4.0 * sum(4 * max(q.lower.numel(), 1) for q in found.values()), sizes[GRIDS]),
        Part(REST, rest, rest * width, sizes[REST]),
        Part(BUFFERS, 0, 0, sizes[BUFFERS]),
        Part(FILE, 0, 0, path.stat().st_size - sum(sizes.values())),
    ]
    form = 'checkpoint' if found else 'full precision'
    parts = [part for part in parts if part.measured or part.parameters]
    wide = sum(width > b for _, width, b in widths)
    return Account(tuple(parts), form, bits, pruned, len(widths), wide, mean_width)


def _widths(layers: Iterable[QuantizedLayer]) -> Iterable[tuple[int, int, int]]:
    """Yields the number of codes, the bits that one needs, and b, for each weight tensor of the paper range."""
    for layer in layers:
        if layer.config.code_range == 'paper':
            parts = layer.weight_quantizers()
            for quantizer, block in zip(parts, layer.weight_codes().chunk(len(parts))):
                needed = (needed_levels(quantizer, block) - 1).bit_length()
                yield block.numel(), max(quantizer.bits, needed), quantizer.bits


def _stored(tensors: Iterable[tuple[str, Tensor]], owners: tuple[str, ...], weights: set[str]) -> dict[str, int]:
    """Sums up the bytes of each part.

    Args:
        tensors: of the file, by name.
        owners: how the names of what belongs to a quantizer begin.
        weights: names of the quantized weights.
    """
    sizes = dict.fromkeys((WEIGHTS, GRIDS, REST, BUFFERS), 0)
    for key, value in tensors:
        name = key.removeprefix('module.')
        if name.rpartition('.')[2] in RECOMPUTABLE:
            part = BUFFERS
        elif name.startswith('quant_record.'):
            continue  # part of the file's own structure
        elif name.startswith(owners) or '_quantizer.' in name or '.mymodule_' in name:
            part = GRIDS
        elif name in weights or _fused(name) in weights or name.endswith('.keep_mask') or '.correction.' in name:
            part = WEIGHTS
        else:
            part = REST
        sizes[part] += value.numel() * value.itemsize
    return sizes


def _tensors(stored: Mapping[str, Any]) -> Iterable[tuple[str, Tensor]]:
    """Yields all tensors of a file by their last names; weights and averaged weights both count."""
    for key, value in stored.items():
        if isinstance(value, Tensor):
            yield key, value
        elif isinstance(value, Mapping):
            yield from _tensors(value)


def _layers(network: nn.Module) -> dict[str, QuantizedLayer]:
    """Returns the layers whose weights have codes, by name."""
    return {name: x for name, x in quantized_layers(network).items() if x.config.operands != 'activations'}


def _fused(name: str) -> str:
    """Turns `...qkv.q.weight` of the authors' files into the `...qkv.weight` of ours."""
    head, _, _ = name.rpartition('.')
    parent, _, part = head.rpartition('.')
    return f'{parent}.weight' if part in ('q', 'k', 'v') and name.endswith('.weight') else name


def _parameters(network: nn.Module) -> tuple[int, int]:
    """Returns how many parameters are quantized, and how many are not, with the numbers of equalized channels."""
    quantized = sum(layer.weight.numel() for layer in _layers(network).values())
    learned = sum(p.numel() for quantizer in quantizers(network).values() for p in quantizer.parameters())
    equalized = sum(b.numel() for name, b in network.named_buffers() if name.endswith(('input_shift', 'input_scale')))
    return quantized, sum(p.numel() for p in network.parameters()) - learned - quantized + equalized
