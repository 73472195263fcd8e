"""What a file stores and what it would need: an account in bytes and in bits for each parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from compsrt_basicsr.archs.state_dicts import RECOMPUTABLE
from compsrt_basicsr.packing.container import is_packed
from compsrt_basicsr.packing.packed import PackedFile, read_packed
from compsrt_basicsr.quant.layers import QuantizedLayer
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.utils.torch_io import read_checkpoint

WEIGHTS, GRIDS, REST = 'quantized weights', 'grids', 'everything else'
BUFFERS, FILE = 'recomputable buffers', 'names, index, header'


@dataclass(frozen=True)
class Part:
    """A part of a file.

    Attributes:
        name: what it is.
        parameters: of the full-precision network, 0 for what is none of them.
        theoretical: bytes by the formulas: b for each code (b (1 - p) + 1 where a share p is pruned), 32 or 16 bits for
            each other number, nothing for the file's own structure.
        measured: bytes in the file.
    """

    name: str
    parameters: int
    theoretical: float
    measured: int


@dataclass(frozen=True)
class Account:
    """All parts of a file; `measured` adds up to the size of the file.

    Attributes:
        parts: in order.
        form: what kind of file it is.
        bits: b of the weights; None in full precision.
        pruned: p, the share of quantized coefficients that a mask takes away.
    """

    parts: tuple[Part, ...]
    form: str
    bits: int | None
    pruned: float

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    @property
    def theoretical(self) -> float:
        return sum(part.theoretical for part in self.parts)

    @property
    def measured(self) -> int:
        return sum(part.measured for part in self.parts)

    @property
    def paper_bits(self) -> float | None:
        """Bits for each quantized weight by the account of CompSRT (arXiv 2601.21069): b (1 - p) + 1, b unpruned."""
        return None if self.bits is None else _paper_bits(self.bits, self.pruned)


def measure_size(path: Path, network: nn.Module) -> Account:
    """Takes the account of a packed file, of a checkpoint, or of a full-precision file.

    Args:
        path: the file.
        network: the network that was loaded from it.

    Raises:
        CompSRTError: the file cannot be read.
    """
    if is_packed(path):
        return _packed(read_packed(path), network)
    return _unpacked(path, network)


def _paper_bits(bits: int, pruned: float) -> float:
    return bits * (1 - pruned) + 1 if pruned else float(bits)


def _packed(file: PackedFile, network: nn.Module) -> Account:
    stored = file.array_bytes

    def measured(*names: str) -> int:
        return sum(stored.get(name, 0) for name in names)

    layers = file.contents.layers
    codes = sum(layer.codes.numel() for layer in layers)
    pruned = sum(int((~layer.keep).sum()) for layer in layers if layer.keep is not None) / codes
    bits = layers[0].bits
    weights, rest = _parameters(network)
    grids = sum(rows.numel() for rows in file.contents.grids.values())
    parts = (
        Part(WEIGHTS, weights, codes * _paper_bits(bits, pruned) / 8, measured('codes', 'tables', 'masks', 'offsets')),
        Part(GRIDS, 0, grids * 4, measured('grids')),
        Part(
            REST, rest, rest * (2 if file.rest == 'fp16' else 4), measured('rest', 'rest_codes', 'rest_tables', 'exact')
        ),
        Part(FILE, 0, 0, file.size - sum(stored.values()) + measured('index')),
    )
    return Account(parts, f'packed, codec {file.codec}, rest in {file.rest}', bits, pruned)


def _unpacked(path: Path, network: nn.Module) -> Account:
    tensors = list(_tensors(load_file(path) if path.suffix == '.safetensors' else read_checkpoint(path)))
    found, weights = quantizers(network), _weights(network)
    owners = tuple(f'{name}.' for name in found)
    sizes = dict.fromkeys((WEIGHTS, GRIDS, REST, BUFFERS), 0)
    numbers = dict.fromkeys(sizes, 0)
    for key, value in tensors:
        name = key.removeprefix('module.')
        if name.rpartition('.')[2] in RECOMPUTABLE:
            part = BUFFERS
        elif name.startswith('quant_record.'):
            continue  # a note of the file on itself
        elif name.startswith(owners) or '_quantizer.' in name or '.mymodule_' in name:
            part = GRIDS
        elif name in weights or _fused(name) in weights or name.endswith('.keep_mask'):
            part = WEIGHTS
        else:
            part = REST
        sizes[part] += value.numel() * value.itemsize
        numbers[part] += value.numel()
    quantized, rest = _parameters(network)
    keeps = [keep for m in _layers(network) if (keep := getattr(m, 'keep_mask', None)) is not None]
    pruned = sum(int((~keep).sum()) for keep in keeps) / sum(keep.numel() for keep in keeps) if keeps else 0.0
    bits = next((q.bits for layer in _layers(network) for q in layer.weight_quantizers()), None)
    codes = sum(layer.transformed_weight().numel() for layer in _layers(network))
    width = 2 if all(value.itemsize == 2 for _, value in tensors) else 4
    parts = [
        Part(WEIGHTS, quantized, codes * _paper_bits(bits, pruned) / 8 if bits else 0, sizes[WEIGHTS]),
        Part(GRIDS, 0, 4.0 * sum(4 * max(q.lower.numel(), 1) for q in found.values()), sizes[GRIDS]),
        Part(REST, rest, rest * width, sizes[REST]),
        Part(BUFFERS, 0, 0, sizes[BUFFERS]),
        Part(FILE, 0, 0, path.stat().st_size - sum(sizes.values())),
    ]
    form = 'checkpoint' if found else 'full precision'
    return Account(tuple(part for part in parts if part.measured or part.parameters), form, bits, pruned)


def _tensors(stored: Mapping[str, Any]) -> Iterable[tuple[str, Tensor]]:
    """All tensors of a file by their last names; weights and averaged weights both count."""
    for key, value in stored.items():
        if isinstance(value, Tensor):
            yield key, value
        elif isinstance(value, Mapping):
            yield from _tensors(value)


def _layers(network: nn.Module) -> list[QuantizedLayer]:
    return [module for module in network.modules() if _has_codes(module)]


def _weights(network: nn.Module) -> set[str]:
    return {f'{name}.weight' for name, module in network.named_modules() if _has_codes(module)}


def _has_codes(module: nn.Module) -> bool:
    return isinstance(module, QuantizedLayer) and module.config.operands != 'activations'


def _fused(name: str) -> str:
    """`...qkv.q.weight` of the authors' files to the `...qkv.weight` of ours."""
    head, _, _ = name.rpartition('.')
    parent, _, part = head.rpartition('.')
    return f'{parent}.weight' if part in ('q', 'k', 'v') and name.endswith('.weight') else name


def _parameters(network: nn.Module) -> tuple[int, int]:
    """How many parameters of the full-precision network are quantized, and how many are not."""
    quantized = sum(layer.weight.numel() for layer in _layers(network))
    learned = sum(p.numel() for quantizer in quantizers(network).values() for p in quantizer.parameters())
    return quantized, sum(p.numel() for p in network.parameters()) - learned - quantized
