"""From the contents of a packed file to its metadata and arrays."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing import codecs
from compsrt_basicsr.packing.bitpack import pack_bits
from compsrt_basicsr.packing.contents import Contents, Layer
from compsrt_basicsr.packing.index import Index, LayerEntry

REST_DTYPES = {'fp16': torch.float16, 'fp32': torch.float32}
_ROUNDED = (torch.float16, torch.bfloat16, torch.float32)


def encode(
    contents: Contents, codec: str, rest: str, about: Mapping[str, str] | None = None
) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Encodes the contents of a packed file.

    Args:
        contents: the network as data.
        codec: one of `codecs.CODECS`.
        rest: 'fp16' or 'fp32'.
        about: further metadata.

    Returns:
        Metadata and arrays; empty arrays are left out.

    Raises:
        CompSRTError: if a number is too large for fp16.
    """
    floats = {k: _rounded(k, v, REST_DTYPES[rest]) for k, v in contents.rest.items() if v.dtype in _ROUNDED}
    exact = {k: v for k, v in contents.rest.items() if v.dtype not in _ROUNDED}
    offsets = [_offsets(contents, layer) for layer in contents.layers]
    codes = [_moved(layer, offset) for layer, offset in zip(contents.layers, offsets)]
    index = _index(contents, floats, exact, zlib.crc32(b''.join(part.numpy().tobytes() for part in codes)))
    masks = [layer.keep for layer in contents.layers if layer.keep is not None]
    stored = codec == 'mask' or not contents.strict  # elsewhere the code of zero tells what is pruned
    blocks = _blocks(contents, index, codes, codec == 'mask')
    arrays = {
        'grids': _joined([rows.flatten() for rows in contents.grids.values()], torch.float32),
        'offsets': _joined([] if contents.strict else [o for layer in offsets for o in layer], torch.int32),
        **codecs.encode(codec, blocks),
        **_coded_rest(_joined([value.flatten() for value in floats.values()], REST_DTYPES[rest]), codec),
        'masks': _joined([_bits(mask) for mask in masks] if stored else [], torch.uint8),
        'exact': np.frombuffer(b''.join(value.numpy().tobytes() for value in exact.values()), np.uint8),
        'index': index.to_array(),
    }
    wide_first = sorted(arrays.items(), key=lambda item: -item[1].itemsize)
    metadata = {
        **(about or {}),
        'codec': codec,
        'rest': rest,
        'record': json.dumps(contents.record, separators=(',', ':')),
    }
    return metadata, {name: array for name, array in wide_first if len(array)}


def _rounded(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    result = value.to(dtype)
    if bool((torch.isfinite(value) & ~torch.isfinite(result)).any()):
        raise CompSRTError(f'`{name}` has numbers beyond the range of fp16: keep the rest in fp32.')
    return result


def _offsets(contents: Contents, layer: Layer) -> list[Tensor]:
    """The smallest code of each grid, (C,) for each block: paper codes do not start at 0, strict ones may."""
    blocks = layer.codes.chunk(len(layer.quantizers))
    if contents.strict:
        return [torch.zeros(1, dtype=torch.int32) for _ in blocks]
    return [b.reshape(contents.grids[q].shape[1], -1).amin(1).int() for b, q in zip(blocks, layer.quantizers)]


def _moved(layer: Layer, offsets: Sequence[Tensor]) -> Tensor:
    """Codes from 0 on, (O, columns) uint8."""
    blocks = layer.codes.flatten(1).chunk(len(offsets))
    return torch.cat([block - offset[:, None] for block, offset in zip(blocks, offsets)]).to(torch.uint8)


def _index(contents: Contents, floats: Mapping[str, Tensor], exact: Mapping[str, Tensor], crc32: int) -> Index:
    numbers = {name: number for number, name in enumerate(contents.grids)}
    return Index(
        [(name, rows.shape[1]) for name, rows in contents.grids.items()],
        [
            LayerEntry(
                x.name, x.bits, tuple(x.codes.shape), tuple(numbers[q] for q in x.quantizers), x.keep is not None
            )
            for x in contents.layers
        ],
        [(name, tuple(value.shape)) for name, value in floats.items()],
        [(name, str(value.dtype).removeprefix('torch.'), tuple(value.shape)) for name, value in exact.items()],
        crc32,
    )


def _blocks(
    contents: Contents, index: Index, codes: Sequence[Tensor], masked: bool
) -> list[tuple[codecs.BlockLayout, codecs.Codes]]:
    blocks = []
    for entry, layer, joined in zip(index.layers, contents.layers, codes):
        count = len(entry.quantizers)
        keeps = layer.keep.flatten(1).chunk(count) if masked and layer.keep is not None else [None] * count
        for keep, block in zip(keeps, joined.chunk(count)):
            mask = None if keep is None else keep.numpy()
            blocks.append((codecs.BlockLayout(entry.rows, entry.columns, entry.bits, mask), block.numpy()))
    return blocks


def _coded_rest(numbers: NDArray[Any], codec: str) -> dict[str, NDArray[Any]]:
    """Floats as they are; an entropy codec takes their highest bytes, since sign and exponent are far from random."""
    if codec not in codecs.ENTROPY_CODECS or not len(numbers):
        return {'rest': numbers}
    parts = numbers.view(np.uint8).reshape(len(numbers), -1)
    coded = codecs.encode(codec, [(codecs.BlockLayout(1, len(numbers), 8), parts[None, :, -1])])
    return {'rest': parts[:, :-1].flatten(), **{f'rest_{name}': array for name, array in coded.items()}}


def _bits(mask: Tensor) -> Tensor:
    return torch.from_numpy(pack_bits(mask.numpy(), 1))


def _joined(parts: Sequence[Tensor], dtype: torch.dtype) -> NDArray[Any]:
    return (torch.cat(list(parts)) if parts else torch.zeros(0)).to(dtype).numpy()
