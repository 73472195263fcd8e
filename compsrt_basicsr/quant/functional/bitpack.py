"""Dense packing of b-bit codes: eight codes take b bytes, for every b from 1 to 8."""

from __future__ import annotations

import torch
from torch import Tensor

_GROUP = 8


def packed_bytes(count: int, bits: int) -> int:
    """Returns the size of `count` codes of `bits` bits in bytes: ceil(count bits / 8)."""
    return (count * bits + 7) // 8


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Packs codes without gaps; the first code takes the lowest bits of the first byte.

    Bit j of code i is bit (i bits + j) mod 8 of byte (i bits + j) div 8. The bits after the last code are 0.

    Args:
        codes: integers or bool in [0, 2^bits), any shape, read in row-major order. The range is not checked: a larger
            value overwrites its neighbours.
        bits: 1 to 8.

    Returns:
        (packed_bytes(N, bits),) uint8.
    """
    flat = codes.reshape(-1).to(torch.int64)
    groups = torch.nn.functional.pad(flat, (0, -len(flat) % _GROUP)).view(-1, _GROUP)
    words = (groups << _shifts(_GROUP, bits, flat.device)).sum(1, keepdim=True)  # disjoint bits: the sum is an or
    data = (words >> _shifts(bits, 8, flat.device)) & 255
    return data.to(torch.uint8).reshape(-1)[: packed_bytes(len(flat), bits)]


def unpack_bits(data: Tensor, bits: int, count: int) -> Tensor:
    """Unpacks what `pack_bits` packed.

    Args:
        data: (packed_bytes(count, bits),) uint8.
        bits: 1 to 8.
        count: number of codes.

    Returns:
        (count,) uint8.
    """
    flat = torch.nn.functional.pad(data.to(torch.int64), (0, -len(data) % bits)).view(-1, bits)
    words = (flat << _shifts(bits, 8, data.device)).sum(1, keepdim=True)
    codes = (words >> _shifts(_GROUP, bits, data.device)) & (2**bits - 1)
    return codes.to(torch.uint8).reshape(-1)[:count]


def _shifts(number: int, distance: int, device: torch.device) -> Tensor:
    return torch.arange(number, device=device) * distance
