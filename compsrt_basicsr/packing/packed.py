"""Packed files: a quantized network as codes, grids and a rounded rest, in one safetensors file.

docs/packing.md specifies the format.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from compsrt_basicsr.errors import CompSRTError, plain, suggestion
from compsrt_basicsr.packing import container
from compsrt_basicsr.packing.codecs import check_codec
from compsrt_basicsr.packing.contents import Contents, collect, restore
from compsrt_basicsr.packing.decode import decode
from compsrt_basicsr.packing.description import parts_of
from compsrt_basicsr.packing.encode import REST_DTYPES, encode
from compsrt_basicsr.utils.atomic_write import atomic_path
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

_LONGEST = 4000  # characters of a text
ABOUT = ('licence', 'origin')


def save_packed(
    network: nn.Module,
    path: str | os.PathLike[str],
    codec: str = 'rans',
    rest: str = 'fp16',
    about: Mapping[str, str] | None = None,
) -> None:
    """Packs a calibrated network into a file, reads it back, and only then puts it in place.

    Args:
        network: a quantized network.
        path: the file.
        codec: one of `codecs.CODECS`; 'mask' is for pruned networks.
        rest: 'fp16' or 'fp32', for all that is not quantized.
        about: texts for the keys of `ABOUT`, which the file carries; see `read_about`.

    Raises:
        CompSRTError: if the network cannot be packed, or the file cannot be written.
    """
    check_codec(codec)
    if rest not in REST_DTYPES:
        raise CompSRTError(
            f'`rest` must be one of {", ".join(REST_DTYPES)}, got {rest!r}.{suggestion(rest, REST_DTYPES)}'
        )
    contents = collect(network)
    if codec == 'mask' and not contents.pruned:
        raise CompSRTError(
            'The codec `mask` is for pruned networks, and this one is not pruned: use `rans` or `plain`.'
        )
    data = container.to_bytes(*encode(contents, codec, rest, about))
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
            _check_written(contents, REST_DTYPES[rest], temporary)
    except OSError as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError(
            f'Could not write `{path}` ({error.strerror or error}): check the folder and the free space.'
        ) from error


def load_packed(path: str | os.PathLike[str]) -> nn.Module:
    """Loads the network of a packed file, in eval mode and without gradients; it computes from the stored codes.

    Raises:
        CompSRTError: if the file is missing, foreign, truncated or altered.
    """
    return restore(read_packed(path))


def read_about(path: str | os.PathLike[str]) -> dict[str, str]:
    """Returns what a packed file carries of licence and origin.

    Raises:
        CompSRTError: if the file is missing, foreign, truncated or altered.
    """
    metadata = container.read(Path(path))[0]
    return {key: plain(str(metadata[key]), _LONGEST) for key in ABOUT if metadata.get(key)}


def read_packed(path: str | os.PathLike[str]) -> Contents:
    """Reads and decodes a packed file without building the network.

    Raises:
        CompSRTError: if the file is missing, foreign, truncated or altered.
    """
    file = Path(path)
    metadata, arrays, size = container.read(file)
    with parts_of(file):
        return decode(metadata, arrays, size)


def _check_written(contents: Contents, dtype: torch.dtype, path: Path) -> None:
    """Raises CompSRTError if what was written does not come back the same."""
    again = read_packed(path)
    same = [torch.equal(ours.codes.int(), theirs.codes.int()) for ours, theirs in zip(contents.layers, again.layers)]
    same += [torch.equal(rows, again.grids[name]) for name, rows in contents.grids.items()]
    for name, value in contents.rest.items():
        expected = value.to(dtype).float() if value.dtype in (torch.float32, torch.float16, torch.bfloat16) else value
        same.append(torch.equal(expected.nan_to_num(), again.rest[name].nan_to_num()))
    if not all(same) or len(contents.layers) != len(again.layers):
        raise CompSRTError(f'What was written to `{path.parent}` does not read back: check the disk and try again.')
