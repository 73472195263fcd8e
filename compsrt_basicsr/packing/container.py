"""A safetensors file of flat arrays with a checksum over all of it, read without trust in its header.

The checksum is the SHA-256 of the whole file in which its own 64 hexadecimal digits are zeros.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory
from compsrt_basicsr.utils.untrusted_json import parse_json

FORMAT, VERSION = 'compsrt-packed', '1'
DTYPES = {'F32': '<f4', 'F16': '<f2', 'I32': '<i4', 'U32': '<u4', 'U16': '<u2', 'U8': '|u1'}
MAX_HEADER = 2**20  # bytes; a real one has about 2,000
_NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
_NO_DIGEST = b'0' * 64


def to_bytes(metadata: Mapping[str, str], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Returns the bytes of a file; the same contents give the same bytes.

    Args:
        metadata: strings.
        arrays: one-dimensional arrays of the types in `DTYPES`, wider types first, so that all are aligned.
    """
    header: dict[str, Any] = {
        '__metadata__': {'format': FORMAT, 'version': VERSION, 'sha256': _NO_DIGEST.decode(), **metadata}
    }
    start = 0
    for name, array in arrays.items():
        header[name] = {
            'dtype': _NAMES[array.dtype],
            'shape': [len(array)],
            'data_offsets': [start, start + array.nbytes],
        }
        start += array.nbytes
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    body = b''.join(array.tobytes() for array in arrays.values())
    data = len(text).to_bytes(8, 'little') + text + body
    return data.replace(_NO_DIGEST, hashlib.sha256(data).hexdigest().encode(), 1)


def read(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]], int]:
    """Reads a file that `to_bytes` made; nothing larger than the file is allocated.

    Returns:
        The metadata, read-only arrays by name, and the bytes of the file.

    Raises:
        CompSRTError: if the file is missing, foreign, of a later version, truncated or altered.
    """
    try:
        with open(path, 'rb') as stream:
            return _read(path, stream)
    except OSError as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError(f'The packed file `{path}` cannot be read: {error.strerror or error}.') from error


def is_packed(path: Path) -> bool:
    """Returns whether the header of a file says that it is a packed one."""
    try:
        with open(path, 'rb') as stream:
            return _metadata(_header(path, stream)[1]).get('format') == FORMAT
    except (OSError, CompSRTError):
        return False


def _read(path: Path, stream: BinaryIO) -> tuple[dict[str, str], dict[str, NDArray[Any]], int]:
    raw, header = _header(path, stream)
    metadata = _metadata(header)
    if metadata.get('format') != FORMAT:
        raise CompSRTError(f'`{path}` is not a packed file: make one with `compsrt pack`.')
    if metadata.get('version') != VERSION:
        raise CompSRTError(
            f'The packed file `{path}` has format version {metadata.get("version")!r:.40}, this program reads '
            f'{VERSION}: use a later version of compsrt_basicsr, or pack the checkpoint again.'
        )
    layout = _layout(path, {name: entry for name, entry in header.items() if name != '__metadata__'})
    size = sum(count * np.dtype(dtype).itemsize for dtype, count in layout.values())
    if os.fstat(stream.fileno()).st_size != len(raw) + size:
        raise _damaged(path)
    body = stream.read(size)
    digest = str(metadata.get('sha256')).encode()
    if hashlib.sha256(raw.replace(digest, _NO_DIGEST, 1) + body).hexdigest().encode() != digest:
        raise _damaged(path)
    arrays, start = {}, 0
    for name, (dtype, count) in layout.items():
        arrays[name] = np.frombuffer(body, dtype, count, start) if count else np.zeros(0, dtype)
        start += arrays[name].nbytes
    return metadata, arrays, len(raw) + size


def _header(path: Path, stream: BinaryIO) -> tuple[bytes, dict[str, Any]]:
    """The first bytes of the file with its header, and the header."""
    prefix = stream.read(8)
    length = int.from_bytes(prefix, 'little')
    if len(prefix) < 8 or not 2 <= length <= MAX_HEADER:
        raise _damaged(path)
    text = stream.read(length)
    try:
        header = parse_json(text)
    except ValueError as error:
        raise _damaged(path) from error
    if len(text) < length or not isinstance(header, dict):
        raise _damaged(path)
    return prefix + text, header


def _metadata(header: Mapping[str, Any]) -> dict[str, str]:
    metadata = header.get('__metadata__')
    return metadata if isinstance(metadata, dict) else {}


def _layout(path: Path, entries: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Type and length of each array; they must follow each other without a gap."""
    layout, end = {}, 0
    for name, entry in entries.items():
        try:
            dtype, (count,), (start, stop) = DTYPES[entry['dtype']], entry['shape'], entry['data_offsets']
            fits = all(type(number) is int and number >= 0 for number in (count, start, stop))
            if not fits or start != end or stop - start != count * np.dtype(dtype).itemsize:
                raise _damaged(path)
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path) from error
        layout[name], end = (dtype, count), stop
    return layout


def _damaged(path: Path) -> CompSRTError:
    return CompSRTError(f'The packed file `{path}` is truncated, altered or foreign: copy or make it again.')
