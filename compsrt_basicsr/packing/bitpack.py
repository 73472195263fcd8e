"""Dense packing of b-bit codes: eight codes make b bytes, whatever b is, 3 included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GROUP = 8  # codes that fill whole bytes; at 8 bits a group fills a word of 64


def packed_bytes(count: int, bits: int) -> int:
    """Returns the bytes that `count` codes of `bits` bits take: ceil(count bits / 8)."""
    return (count * bits + 7) // 8


def pack_bits(codes: NDArray[np.generic], bits: int) -> NDArray[np.uint8]:
    """Packs codes without gaps, the first code in the lowest bits of the first byte.

    Bit j of code i is bit (i bits + j) mod 8 of byte (i bits + j) div 8; bits after the last code are 0.

    Args:
        codes: any shape, integers or bool in [0, 2^bits), read row by row; larger values would spoil their neighbours.
        bits: 1 to 8.

    Returns:
        (packed_bytes(N, bits),) bytes.
    """
    groups = np.zeros((-(-codes.size // _GROUP), _GROUP), np.uint64)
    groups.reshape(-1)[: codes.size] = codes.reshape(-1)
    words = np.bitwise_or.reduce(groups << _shifts(bits), axis=1)
    data = words.astype('<u8').view(np.uint8).reshape(-1, _GROUP)[:, :bits]
    return data.reshape(-1)[: packed_bytes(codes.size, bits)]


def unpack_bits(data: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """Unpacks the codes that `pack_bits` packed.

    Args:
        data: (packed_bytes(count, bits),) bytes.
        bits: 1 to 8.
        count: number of codes.

    Returns:
        (count,) codes.
    """
    grouped = np.zeros((-(-len(data) // bits), bits), np.uint8)
    grouped.reshape(-1)[: len(data)] = data
    wide = np.zeros((len(grouped), _GROUP), np.uint8)
    wide[:, :bits] = grouped
    words = wide.view('<u8').astype(np.uint64)
    codes = (words >> _shifts(bits)) & np.uint64(2**bits - 1)
    return codes.astype(np.uint8).reshape(-1)[:count]


def _shifts(bits: int) -> NDArray[np.uint64]:
    return np.arange(_GROUP, dtype=np.uint64) * np.uint64(bits)
