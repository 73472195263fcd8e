"""From the metadata and arrays of a packed file to its contents; nothing in them is trusted."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing import codecs
from compsrt_basicsr.packing.bitpack import packed_bytes, unpack_bits
from compsrt_basicsr.packing.contents import Contents, Layer
from compsrt_basicsr.packing.description import REST, describe
from compsrt_basicsr.packing.grids import FIELDS, code_of_zero, set_grid
from compsrt_basicsr.packing.index import Index, LayerEntry
from compsrt_basicsr.quant.quantizer import Quantizer


@dataclass(frozen=True)
class _Block:
    """One weight tensor: its layer, its quantizer, and what is known of its codes.

    Attributes:
        offset: (C, 1) int32, smallest code of each grid; None in strict range.
        keep: (rows, columns), the stored mask; None without one.
        zero: (C, 1) int32, the code of a pruned coefficient; None where nothing is pruned.
    """

    entry: LayerEntry
    quantizer: str
    offset: Tensor | None
    keep: Tensor | None
    zero: Tensor | None

    def layout(self, masked: bool) -> codecs.BlockLayout:
        """Returns what the codec must know; `masked` leaves the pruned codes out."""
        x = self.entry
        if not (masked and x.pruned):
            return codecs.BlockLayout(x.rows, x.columns, x.bits)
        if self.keep is None or self.zero is None:
            raise CompSRTError(f'The mask of `{x.name}` is missing: make the file again.')
        fill = self.zero if self.offset is None else self.zero - self.offset
        return codecs.BlockLayout(x.rows, x.columns, x.bits, self.keep.numpy(), fill.to(torch.uint8).numpy())

    def values(self, codes: Tensor) -> Tensor:
        """Returns the integers that stored codes stand for."""
        return codes if self.offset is None else codes.to(torch.int32) + self.offset

    def kept(self, values: Tensor) -> Tensor:
        """Returns what is not pruned, (rows, columns) bool: by the stored mask, or by the code of zero."""
        if self.keep is not None:
            return self.keep
        if self.zero is None:
            return torch.ones_like(values, dtype=torch.bool)
        return values.ne(self.zero)


def decode(metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], size: int) -> Contents:
    """Decodes the contents of a packed file.

    Args:
        metadata: with `codec`, `rest` and `record`.
        arrays: by name.
        size: bytes of the file, which limit what is allocated.

    Raises:
        CompSRTError: if the parts do not fit each other; damage may also raise what Python raises for wrong types.
    """
    described = describe(metadata, arrays, size)
    codec, index, code_range = described.codec, described.index, described.code_range
    grids = _grids(index, arrays['grids'], len(FIELDS[code_range]))
    blocks = _blocks(index, grids, arrays, code_range)
    decoded = codecs.decode(codec, arrays, [block.layout(codec == 'mask') for block in blocks])
    if zlib.crc32(b''.join(part.tobytes() for part in decoded)) != index.crc32:
        raise CompSRTError('The codes are not those that were packed: make the file again.')
    codes = [torch.tensor(part) for part in decoded]
    numbers = _decode_rest(codec, described.rest, arrays, sum(math.prod(shape) for _, shape in index.rest))
    return Contents(described.record, _layers(index, blocks, codes), grids, _rest(index, numbers, arrays.get('exact')))


class _Cursor:
    """Takes one part after the other from an array, which must be used up in the end."""

    def __init__(self, array: NDArray[Any] | None) -> None:
        self._rest = torch.zeros(0) if array is None else torch.tensor(array)

    def take(self, count: int) -> Tensor:
        """Returns the next `count` entries."""
        if count > len(self._rest):
            raise CompSRTError('An array is shorter than the index says: make the file again.')
        part, self._rest = self._rest[:count], self._rest[count:]
        return part

    def finish(self) -> None:
        """Raises CompSRTError if entries are left."""
        if len(self._rest):
            raise CompSRTError('An array is longer than the index says: make the file again.')


def _grids(index: Index, array: NDArray[Any], fields: int) -> dict[str, Tensor]:
    cursor = _Cursor(array)
    grids = {name: cursor.take(fields * count).view(fields, count) for name, count in index.quantizers}
    cursor.finish()
    return grids


def _blocks(
    index: Index, grids: Mapping[str, Tensor], arrays: Mapping[str, NDArray[Any]], code_range: str
) -> list[_Block]:
    offsets, masks = _Cursor(arrays.get('offsets')), _Cursor(arrays.get('masks'))
    zeros = _zeros(index, grids, code_range)
    blocks = []
    for entry in index.layers:
        count, total = len(entry.quantizers), math.prod(entry.shape)
        keeps: Sequence[Tensor | None] = [None] * count
        if entry.pruned and 'masks' in arrays:
            mask = unpack_bits(masks.take(packed_bytes(total, 1)).numpy(), 1, total)
            keeps = torch.tensor(mask).bool().view(entry.shape[0], -1).chunk(count)
        for keep, number in zip(keeps, entry.quantizers):
            name, channels = index.quantizers[number]
            offset = None if code_range == 'strict' else offsets.take(channels).view(-1, 1)
            blocks.append(_Block(entry, name, offset, keep, zeros.get(name)))
    offsets.finish()
    masks.finish()
    return blocks


def _zeros(index: Index, grids: Mapping[str, Tensor], code_range: str) -> dict[str, Tensor]:
    """Returns the codes of zero, (C, 1), for the quantizers of pruned weights; computed together: they may be many."""
    zeros: dict[str, Tensor] = {}
    for bits in sorted({entry.bits for entry in index.layers if entry.pruned}):
        numbers = [n for entry in index.layers if entry.pruned and entry.bits == bits for n in entry.quantizers]
        names = [index.quantizers[number][0] for number in numbers]
        rows = torch.cat([grids[name] for name in names], 1)
        together = names[0] if len(names) == 1 else f'{names[0]}` to `{names[-1]}'  # for the message
        quantizer = Quantizer(bits, code_range, rows.shape[1], together)
        set_grid(quantizer, rows)
        zeros.update(zip(names, code_of_zero(quantizer).split([grids[name].shape[1] for name in names])))
    return zeros


def _layers(index: Index, blocks: list[_Block], codes: list[Tensor]) -> list[Layer]:
    layers, pairs = [], iter(zip(blocks, codes))
    for entry in index.layers:
        parts = [next(pairs) for _ in entry.quantizers]
        values = [block.values(code) for block, code in parts]
        keep = torch.cat([block.kept(value) for (block, _), value in zip(parts, values)]) if entry.pruned else None
        layers.append(
            Layer(
                entry.name,
                entry.bits,
                tuple(block.quantizer for block, _ in parts),
                torch.cat(values).view(entry.shape),
                None if keep is None else keep.view(entry.shape),
            )
        )
    return layers


def _decode_rest(codec: str, rest: str, arrays: Mapping[str, NDArray[Any]], count: int) -> NDArray[Any]:
    """Returns the floats of the rest, whose highest bytes an entropy codec stored apart."""
    dtype = np.dtype(REST[rest])
    split = codec in codecs.ENTROPY_CODECS and count > 0
    stored = arrays.get('rest', np.zeros(0, np.uint8)).view(np.uint8)
    if len(stored) != count * (dtype.itemsize - split):
        raise CompSRTError('The rest is longer or shorter than the index says: make the file again.')
    if not split:
        return stored.view(dtype)
    coded = {name.removeprefix('rest_'): array for name, array in arrays.items() if name.startswith('rest_')}
    (high,) = codecs.decode(codec, coded, [codecs.BlockLayout(1, count, 8)])
    return np.concatenate([stored.reshape(count, -1), high.T], axis=1).flatten().view(dtype)


def _rest(index: Index, numbers: NDArray[Any], raw: NDArray[Any] | None) -> dict[str, Tensor]:
    floats, exact = _Cursor(numbers), _Cursor(raw)
    rest = {name: floats.take(math.prod(shape)).float().view(shape) for name, shape in index.rest}
    for name, dtype_name, shape in index.exact:
        dtype = getattr(torch, dtype_name)
        rest[name] = exact.take(math.prod(shape) * dtype.itemsize).clone().view(dtype).view(shape)
    floats.finish()
    exact.finish()
    return rest
