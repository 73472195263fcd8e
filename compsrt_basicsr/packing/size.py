"""What a packed file stores and what it would need: an account in bytes and in bits for each parameter.

Only the file is read: neither torch nor the network is needed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compsrt_basicsr.packing import codecs, container
from compsrt_basicsr.packing.description import describe, parts_of
from compsrt_basicsr.packing.index import Index

WEIGHTS, GRIDS, REST = 'quantized weights', 'grids', 'everything else'
BUFFERS, FILE = 'recomputable buffers', 'names, index, header'


@dataclass(frozen=True)
class Part:
    """A part of a file.

    Attributes:
        name: what it is.
        parameters: of the full-precision network, 0 for what is none of them.
        theoretical: bytes by the formulas: b for each code (b (1 - p) + 1 where a share p is pruned; the width that
            the codes need instead of b where the paper range exceeds it), 32 or 16 bits for each other number, nothing
            for the file's own structure.
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
        pruned: p, the share of quantized coefficients that a mask removes.
        tensors: weight tensors with codes, one for each weight quantizer; 0 where none can exceed b bits.
        wide: those of them that span more than 2^b levels, as the paper range allows.
        width: bits that a code of fixed width needs, the mean over all codes; 0 where none can exceed b bits.
    """

    parts: tuple[Part, ...]
    form: str
    bits: int | None
    pruned: float
    tensors: int = 0
    wide: int = 0
    width: float = 0.0

    @property
    def parameters(self) -> int:
        """Parameters of the full-precision network."""
        return sum(part.parameters for part in self.parts)

    @property
    def theoretical(self) -> float:
        """Bytes by the formulas."""
        return sum(part.theoretical for part in self.parts)

    @property
    def measured(self) -> int:
        """Bytes of the file."""
        return sum(part.measured for part in self.parts)

    @property
    def paper_bits(self) -> float | None:
        """Bits for each quantized weight by the account of CompSRT (arXiv 2601.21069): b (1 - p) + 1, b unpruned."""
        return None if self.bits is None else paper_bits(self.bits, self.pruned)


def paper_bits(bits: float, pruned: float) -> float:
    """Returns the bits for each weight by the account of CompSRT: b (1 - p) + 1, and b where nothing is pruned."""
    return bits * (1 - pruned) + 1 if pruned else float(bits)


def usual_bits(layers: Iterable[tuple[int, int]]) -> int:
    """Returns the bit width of most codes; the first and the last layer may have another.

    Args:
        layers: bits and number of codes of each layer.
    """
    counts: Counter[int] = Counter()
    for bits, codes in layers:
        counts[bits] += codes
    return counts.most_common(1)[0][0]


def measure_packed(path: Path) -> Account:
    """Takes the account of a packed file.

    Args:
        path: the file.

    Raises:
        CompSRTError: if the file is missing, foreign, truncated or altered.
    """
    metadata, arrays, size = container.read(path)
    with parts_of(path):
        return _account(path, metadata, arrays, size)


def _account(path: Path, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], size: int) -> Account:
    described = describe(metadata, arrays, size)
    index, codec, rest = described.index, described.codec, described.rest
    stored = {name: array.nbytes for name, array in arrays.items()}

    def measured(*names: str) -> int:
        return sum(stored.get(name, 0) for name in names)

    codes = sum(math.prod(layer.shape) for layer in index.layers)
    pruned = _pruned(codec, arrays, index) / codes
    bits = usual_bits((layer.bits, math.prod(layer.shape)) for layer in index.layers)
    others = sum(math.prod(shape) for _, shape in index.rest)
    parts = (
        Part(
            WEIGHTS,
            _weights_of_padded(path) if described.record['quant'].get('transform') == 'padded' else codes,
            sum(math.prod(layer.shape) * paper_bits(layer.bits, pruned) for layer in index.layers) / 8,
            measured('codes', 'tables', 'masks', 'offsets'),
        ),
        Part(GRIDS, 0, arrays['grids'].size * 4, measured('grids')),
        Part(
            REST,
            others,
            others * (2 if rest == 'fp16' else 4),
            measured('rest', 'rest_codes', 'rest_tables', 'exact'),
        ),
        Part(FILE, 0, 0, size - sum(stored.values()) + measured('index')),
    )
    return Account(parts, f'packed, codec {codec}, rest in {rest}', bits, pruned)


def _pruned(codec: str, arrays: Mapping[str, NDArray[Any]], index: Index) -> int:
    """Counts the pruned codes: by the stored masks, or by the code of zero, as docs/packing.md specifies."""
    layers = [layer for layer in index.layers if layer.pruned]
    if not layers:
        return 0
    if 'masks' in arrays:
        return sum(math.prod(layer.shape) for layer in layers) - int(np.unpackbits(arrays['masks']).sum())
    owners = [(layer, number) for layer in index.layers for number in layer.quantizers]
    layouts = [codecs.BlockLayout(layer.rows, layer.columns, layer.bits) for layer, _ in owners]
    starts = np.cumsum([0, *(2 * count for _, count in index.quantizers)])
    pruned = 0
    for (layer, number), block in zip(owners, codecs.decode(codec, arrays, layouts)):
        if layer.pruned:
            scale, zero = arrays['grids'][starts[number] : starts[number + 1]].reshape(2, -1, 1)
            pruned += int((block == np.clip(np.rint(-zero / scale), 0, 2**layer.bits - 1)).sum())
    return pruned


def _weights_of_padded(path: Path) -> int:
    """Counts the quantized weights of a network with padded transforms, of which the file has more codes."""
    from compsrt_basicsr.packing.packed import load_packed
    from compsrt_basicsr.quant.layers import quantized_layers

    return sum(layer.weight.numel() for layer in quantized_layers(load_packed(path)).values())
