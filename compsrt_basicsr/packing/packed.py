"""Packed files: a quantized network as codes, grids and a rounded rest, in one safetensors file.

docs/packing.md specifies the format.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.packing import codecs, container
from compsrt_basicsr.packing.contents import Contents, collect, restore
from compsrt_basicsr.packing.decode import decode
from compsrt_basicsr.packing.encode import REST_DTYPES, encode


@dataclass(frozen=True)
class PackedFile:
    """A packed file, read.

    Attributes:
        contents: the network as data.
        codec: how its codes are stored.
        rest: 'fp16' or 'fp32'.
        array_bytes: stored bytes of each array.
        size: bytes of the file.
    """

    contents: Contents
    codec: str
    rest: str
    array_bytes: dict[str, int]
    size: int


def save_packed(network: nn.Module, path: str | os.PathLike[str], codec: str = 'rans', rest: str = 'fp16') -> None:
    """Packs a calibrated network into a file, reads it back, and only then puts it in place.

    Args:
        network: a quantized network.
        path: the file.
        codec: one of `codecs.CODECS`; 'mask' is for pruned networks.
        rest: 'fp16' or 'fp32', for all that is not quantized.

    Raises:
        CompSRTError: the network cannot be packed, or the file not be written.
    """
    for name, value, known in (('codec', codec, codecs.CODECS), ('rest', rest, tuple(REST_DTYPES))):
        if value not in known:
            raise CompSRTError(f'`{name}` must be one of {", ".join(known)}, got {value!r}.{suggestion(value, known)}')
    contents = collect(network)
    if codec == 'mask' and not contents.pruned:
        raise CompSRTError(
            'The codec `mask` is for pruned networks, and this one is not pruned: use `rans` or `plain`.'
        )
    data = container.to_bytes(*encode(contents, codec, rest))
    container.write_atomically(Path(path), data, partial(_check_written, contents, REST_DTYPES[rest]))


def load_packed(path: str | os.PathLike[str]) -> nn.Module:
    """The network of a packed file, in eval mode and without gradients, computing from the stored codes.

    Raises:
        CompSRTError: the file is missing, foreign, truncated or altered.
    """
    return restore(read_packed(path).contents)


def read_packed(path: str | os.PathLike[str]) -> PackedFile:
    """Reads and decodes a packed file without building the network.

    Raises:
        CompSRTError: the file is missing, foreign, truncated or altered.
    """
    file = Path(path)
    metadata, arrays, size = container.read(file)
    try:
        contents = decode(metadata, arrays, size)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
        raise CompSRTError(f'The parts of the packed file `{file}` do not fit each other: make it again.') from error
    except CompSRTError as error:
        raise CompSRTError(f'`{file}`: {error}') from error
    sizes = {name: array.nbytes for name, array in arrays.items()}
    return PackedFile(contents, metadata['codec'], metadata['rest'], sizes, size)


def _check_written(contents: Contents, dtype: torch.dtype, path: Path) -> None:
    """What was written must come back the same, or the file must not be put in place."""
    again = read_packed(path).contents
    same = [torch.equal(ours.codes.int(), theirs.codes.int()) for ours, theirs in zip(contents.layers, again.layers)]
    same += [torch.equal(rows, again.grids[name]) for name, rows in contents.grids.items()]
    for name, value in contents.rest.items():
        expected = value.to(dtype).float() if value.dtype in (torch.float32, torch.float16, torch.bfloat16) else value
        same.append(torch.equal(expected.nan_to_num(), again.rest[name].nan_to_num()))
    if not all(same) or len(contents.layers) != len(again.layers):
        raise CompSRTError(f'What was written to `{path.parent}` does not read back: check the disk and try again.')
