"""How codes become bytes: as they are, behind a mask, by zstd, or by rANS with integer frequencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import constriction
import numpy as np
import torch
import zstandard
from torch import Tensor

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.functional.bitpack import pack_bits, packed_bytes, unpack_bits

CODECS = ('plain', 'mask', 'zstd', 'rans')
ENTROPY_CODECS = ('zstd', 'rans')  # those that use how often a code occurs
TABLE_BITS = 16  # frequencies of a table add up to 2^16
_CODER_BITS = 24  # those inside of constriction's coder to 2^24
_ZSTD_LEVEL = 19


@dataclass(frozen=True)
class BlockLayout:
    """What a decoder knows of one weight tensor beforehand.

    Attributes:
        rows, columns: its size; kernel taps count as columns.
        bits: b.
        keep: (rows, columns) bool, False where the codec `mask` leaves a code out; None: it leaves none out.
        fill: (rows or 1, 1) uint8, the codes left out.
    """

    rows: int
    columns: int
    bits: int
    keep: Tensor | None = None
    fill: Tensor | None = None

    @property
    def size(self) -> int:
        """Number of codes."""
        return self.rows * self.columns


def encode(codec: str, blocks: Sequence[tuple[BlockLayout, Tensor]]) -> dict[str, np.ndarray]:
    """Arrays of the coded blocks: `codes`, and for rANS `tables`.

    Args:
        codec: one of `CODECS`.
        blocks: layouts and codes (rows, columns) uint8 below 2^b.
    """
    if codec in ('plain', 'mask'):
        parts = [pack_bits(codes if x.keep is None else codes[x.keep], x.bits) for x, codes in blocks]
        return {'codes': torch.cat(parts).numpy()}
    if codec == 'zstd':
        joined = torch.cat([codes.flatten() for _, codes in blocks]).numpy().tobytes()
        packed = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=False).compress(joined)
        return {'codes': np.frombuffer(packed, np.uint8)}
    tables = [frequencies(codes, x.bits) for x, codes in blocks]
    coder = constriction.stream.stack.AnsCoder()
    for (_, codes), table in reversed(list(zip(blocks, tables))):  # a stack: what is coded last is decoded first
        coder.encode_reverse(codes.flatten().to(torch.int32).numpy(), _model(table))
    return {'codes': coder.get_compressed().astype('<u4'), 'tables': np.concatenate(tables).astype('<u2')}


def decode(codec: str, arrays: Mapping[str, np.ndarray], layouts: Sequence[BlockLayout]) -> list[Tensor]:
    """The codes of the blocks, (rows, columns) uint8 each.

    Raises:
        CompSRTError: the arrays do not fit the layouts.
    """
    data = arrays['codes']
    if codec in ('plain', 'mask'):
        return _decode_dense(data, layouts)
    total = sum(x.size for x in layouts)
    if codec == 'zstd':
        joined = _decompress(data.tobytes(), total)
        codes = torch.from_numpy(np.frombuffer(joined, np.uint8).copy())
    else:
        codes = _decode_rans(data, arrays['tables'], layouts)
    blocks = [block.view(x.rows, x.columns) for block, x in zip(codes.split([x.size for x in layouts]), layouts)]
    if any(int(block.max()) >> x.bits for block, x in zip(blocks, layouts)):
        raise _misfit()
    return blocks


def frequencies(codes: Tensor, bits: int) -> np.ndarray:
    """How often each code occurs, rounded to whole numbers of at least 1 that add up to 2^16.

    Args:
        codes: at least one, below 2^bits.
        bits: b, 1 to 8.

    Returns:
        (2^b,) int64.
    """
    counts = torch.bincount(codes.flatten().long(), minlength=2**bits).numpy()
    free = 2**TABLE_BITS - len(counts)
    table = 1 + counts * free // counts.sum()
    remainders = counts * free % counts.sum()
    missing = 2**TABLE_BITS - table.sum()
    table[np.argsort(-remainders, kind='stable')[:missing]] += 1  # the largest remainders, as in an election
    return table


def _model(table: np.ndarray):
    """Constriction's model with exactly these frequencies.

    It gives symbol i one count and deals the other 2^24 - n out in proportion to the numbers it gets. These add up to
    2^24 - n, so that the proportion is 1 and no float is ever rounded.
    """
    counts = (table.astype(np.int64) << (_CODER_BITS - TABLE_BITS)) - 1
    return constriction.stream.model.Categorical(counts.astype(np.float64), perfect=False)


def _decompress(data: bytes, size: int) -> bytes:
    """A zstd frame of a known size; what a frame says of its size would be allocated, so it is compared first."""
    try:
        if zstandard.frame_content_size(data) != size:
            raise _misfit()
        return zstandard.ZstdDecompressor(max_window_size=2**27).decompress(data, size)
    except zstandard.ZstdError as error:
        raise _misfit() from error


def _decode_dense(data: np.ndarray, layouts: Sequence[BlockLayout]) -> list[Tensor]:
    counts = [x.size if x.keep is None else int(x.keep.sum()) for x in layouts]
    sizes = [packed_bytes(count, x.bits) for count, x in zip(counts, layouts)]
    if len(data) != sum(sizes):
        raise _misfit()
    blocks = []
    for part, count, x in zip(torch.from_numpy(data.copy()).split(sizes), counts, layouts):
        codes = unpack_bits(part, x.bits, count)
        if x.keep is None:
            blocks.append(codes.view(x.rows, x.columns))
        else:
            blocks.append(x.fill.expand(x.rows, x.columns).masked_scatter(x.keep, codes))
    return blocks


def _decode_rans(words: np.ndarray, joined: np.ndarray, layouts: Sequence[BlockLayout]) -> Tensor:
    widths = [2**x.bits for x in layouts]
    if len(joined) != sum(widths):
        raise _misfit()
    tables = np.split(joined.astype(np.int64), np.cumsum(widths)[:-1])
    if any(table.min() < 1 or table.sum() != 2**TABLE_BITS for table in tables):
        raise _misfit()
    try:
        coder = constriction.stream.stack.AnsCoder(words.astype(np.uint32))
        parts = [coder.decode(_model(table), x.size) for table, x in zip(tables, layouts)]
    except ValueError as error:
        raise _misfit() from error
    if not coder.is_empty():
        raise _misfit()
    return torch.from_numpy(np.concatenate(parts).astype(np.uint8))


def _misfit() -> CompSRTError:
    return CompSRTError('The coded weights do not fit the index of the file: make it again.')
