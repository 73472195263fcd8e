"""How codes become bytes: as they are, behind a mask, or by rANS with integer frequencies; zstd is only read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.packing.bitpack import pack_bits, packed_bytes, unpack_bits
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

Codes = NDArray[np.uint8]

CODECS = ('plain', 'mask', 'rans')
READ_ONLY = 'zstd'  # of earlier versions
ENTROPY_CODECS = ('rans', READ_ONLY)  # those that use how often a code occurs
TABLE_BITS = 16  # frequencies of a table add up to 2^16
_CODER_BITS = 24  # the frequencies in constriction's coder add up to 2^24


@dataclass(frozen=True)
class BlockLayout:
    """What a decoder knows of one weight tensor beforehand.

    Attributes:
        rows, columns: its size; kernel taps count as columns.
        bits: b.
        keep: (rows, columns) bool, False where the codec `mask` leaves a code out; None: it leaves none out.
        fill: (rows or 1, 1) the codes left out.
    """

    rows: int
    columns: int
    bits: int
    keep: NDArray[np.bool_] | None = None
    fill: Codes | None = None

    @property
    def size(self) -> int:
        """Number of codes."""
        return self.rows * self.columns


def check_codec(codec: str) -> None:
    """Checks the name of a codec to write with.

    Raises:
        CompSRTError: if there is none of that name. The message names the nearest.
    """
    if codec == READ_ONLY:
        raise CompSRTError(f'The codec `{READ_ONLY}` is no longer written: use `rans`, whose files are smaller.')
    if codec not in CODECS:
        raise CompSRTError(f'`codec` must be one of {", ".join(CODECS)}, got {codec!r}.{suggestion(codec, CODECS)}')


def encode(codec: str, blocks: Sequence[tuple[BlockLayout, Codes]]) -> dict[str, NDArray[Any]]:
    """Encodes blocks of codes.

    Args:
        codec: one of `CODECS`.
        blocks: layouts and codes (rows, columns) below 2^b.

    Returns:
        The arrays `codes`, and for rANS `tables`.
    """
    if codec in ('plain', 'mask'):
        parts = [pack_bits(codes if x.keep is None else codes[x.keep], x.bits) for x, codes in blocks]
        return {'codes': np.concatenate(parts)}
    import constriction

    tables = [frequencies(codes, x.bits) for x, codes in blocks]
    coder = constriction.stream.stack.AnsCoder()
    for (_, codes), table in reversed(list(zip(blocks, tables))):  # a stack: what is coded last is decoded first
        coder.encode_reverse(codes.reshape(-1).astype(np.int32), _model(table))
    return {'codes': coder.get_compressed().astype('<u4'), 'tables': np.concatenate(tables).astype('<u2')}


def decode(codec: str, arrays: Mapping[str, NDArray[Any]], layouts: Sequence[BlockLayout]) -> list[Codes]:
    """Decodes blocks of codes.

    Args:
        codec: one of `CODECS`, or `READ_ONLY`.
        arrays: as `encode` returned them.
        layouts: of the blocks, in their order.

    Returns:
        The codes of the blocks, (rows, columns) each.

    Raises:
        CompSRTError: if the arrays do not fit the layouts, or the codec is not known or not installed.
    """
    if codec not in (*CODECS, READ_ONLY):
        raise CompSRTError(f'The codec {codec!r} is not known to this program: use a later version.')
    data = arrays['codes']
    if codec in ('plain', 'mask'):
        return _decode_dense(data, layouts)
    sizes = [x.size for x in layouts]
    joined = _decode_rans(data, arrays['tables'], layouts) if codec == 'rans' else _decode_zstd(data, sum(sizes))
    blocks = [block.reshape(x.rows, x.columns) for block, x in zip(np.split(joined, np.cumsum(sizes)[:-1]), layouts)]
    if any(int(block.max()) >> x.bits for block, x in zip(blocks, layouts)):
        raise _misfit()
    return blocks


def frequencies(codes: Codes, bits: int) -> NDArray[np.int64]:
    """Counts how often each code occurs, rounded to whole numbers of at least 1 that add up to 2^16.

    Args:
        codes: at least one, below 2^bits.
        bits: b, 1 to 8.

    Returns:
        (2^b,) frequencies.
    """
    counts = np.bincount(codes.reshape(-1), minlength=2**bits)
    free = 2**TABLE_BITS - len(counts)
    table = 1 + counts * free // counts.sum()
    remainders = counts * free % counts.sum()
    missing = 2**TABLE_BITS - table.sum()
    table[np.argsort(-remainders, kind='stable')[:missing]] += 1  # the largest remainders, as in an election
    return table


def _model(table: NDArray[np.int64]) -> Any:
    """Returns constriction's model with exactly these frequencies.

    It gives each of the n symbols one count and distributes the other 2^24 - n in proportion to the numbers it gets.
    These add up to 2^24 - n, so that the proportion is 1 and no float is ever rounded.
    """
    import constriction

    counts = (table.astype(np.int64) << (_CODER_BITS - TABLE_BITS)) - 1
    return constriction.stream.model.Categorical(counts.astype(np.float64), perfect=False)


def _decode_dense(data: Codes, layouts: Sequence[BlockLayout]) -> list[Codes]:
    counts = [x.size if x.keep is None else int(x.keep.sum()) for x in layouts]
    sizes = [packed_bytes(count, x.bits) for count, x in zip(counts, layouts)]
    if len(data) != sum(sizes):
        raise _misfit()
    blocks = []
    for part, count, x in zip(np.split(data, np.cumsum(sizes)[:-1]), counts, layouts):
        codes = unpack_bits(part, x.bits, count)
        if x.keep is not None and x.fill is not None:
            block = np.broadcast_to(x.fill, x.keep.shape).copy()
            block[x.keep] = codes
        else:
            block = codes.reshape(x.rows, x.columns)
        blocks.append(block)
    return blocks


def _decode_rans(words: NDArray[Any], joined: NDArray[Any], layouts: Sequence[BlockLayout]) -> Codes:
    import constriction

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
    return np.concatenate(parts).astype(np.uint8)


def _decode_zstd(data: NDArray[Any], size: int) -> Codes:
    """Decompresses a zstd frame of a known size; the size that a frame names would be allocated, so it is compared."""
    try:
        import zstandard
    except ImportError as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError(
            'The codes are compressed by zstd, which needs `python -m pip install zstandard`; or pack the checkpoint '
            'again, which takes less space.'
        ) from error
    try:
        if zstandard.frame_content_size(data.tobytes()) != size:
            raise _misfit()
        joined = zstandard.ZstdDecompressor(max_window_size=2**27).decompress(data.tobytes(), size)
    except zstandard.ZstdError as error:
        if is_out_of_memory(error):
            raise
        raise _misfit() from error
    return np.frombuffer(joined, np.uint8)


def _misfit() -> CompSRTError:
    return CompSRTError('The coded weights do not fit the index of the file: make it again.')
