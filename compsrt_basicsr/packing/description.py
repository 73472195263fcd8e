"""What a packed file says of itself, checked before anything relies on it: codec, precision, record, index, types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compsrt_basicsr.config.renames import renamed_record
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing.codecs import CODECS, ENTROPY_CODECS, READ_ONLY
from compsrt_basicsr.packing.index import Index
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory
from compsrt_basicsr.utils.untrusted_json import parse_json

REST = {'fp16': '<f2', 'fp32': '<f4'}
CODE_RANGES = ('strict', 'paper')


@dataclass(frozen=True)
class Description:
    """What a packed file says of itself.

    Attributes:
        codec: one of `CODECS`, or `READ_ONLY`.
        rest: 'fp16' or 'fp32'.
        record: `arch`, `args` and `quant`, whose options have today's names; what they hold is not checked.
        index: what the arrays stand for.
    """

    codec: str
    rest: str
    record: dict[str, Any]
    index: Index

    @property
    def code_range(self) -> str:
        """'strict' or 'paper'."""
        return str(self.record['quant'].get('code_range', CODE_RANGES[0]))


def describe(metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], size: int) -> Description:
    """Reads what a packed file says of itself.

    Args:
        metadata: with `codec`, `rest` and `record`.
        arrays: by name.
        size: bytes of the file, which limit what the index may hold.

    Raises:
        CompSRTError: if a part is missing, damaged, or of a wrong type.
    """
    codec, rest = metadata.get('codec'), metadata.get('rest')
    if codec not in (*CODECS, READ_ONLY):
        raise CompSRTError(f'The codec {codec!r:.40} is not known to this program: use a later version.')
    if rest not in REST:
        raise CompSRTError(f'The precision {rest!r:.40} is not known to this program: use a later version.')
    types = _types(str(codec), str(rest))
    for name, array in arrays.items():
        if name not in types or array.dtype != np.dtype(types[name]):
            raise CompSRTError(f'The array {name!r:.40} is unknown or of another type: make the file again.')
    if 'index' not in arrays or 'grids' not in arrays:
        raise CompSRTError('The file has no index or no grids: make it again.')
    return Description(str(codec), str(rest), _record(metadata.get('record')), Index.from_array(arrays['index'], size))


def _types(codec: str, rest: str) -> dict[str, str]:
    """Returns the type of each array that a file may have, as docs/packing.md specifies."""
    codes = '<u4' if codec == 'rans' else '|u1'
    return {
        'index': '|u1',
        'grids': '<f4',
        'codes': codes,
        'tables': '<u2',
        'offsets': '<i4',
        'masks': '|u1',
        'rest': '|u1' if codec in ENTROPY_CODECS else REST[rest],
        'rest_codes': codes,
        'rest_tables': '<u2',
        'exact': '|u1',
    }


def _record(text: Any) -> dict[str, Any]:
    try:
        record = parse_json(text) if isinstance(text, str) else None
    except ValueError as error:
        raise CompSRTError('The record of the network is damaged: make the file again.') from error
    if not isinstance(record, dict) or not isinstance(record.get('quant'), dict):
        raise CompSRTError('The record of the network is damaged: make the file again.')
    if record['quant'].get('code_range', CODE_RANGES[0]) not in CODE_RANGES:
        raise CompSRTError('The record of the network has an unknown `code_range`: use a later version.')
    return renamed_record(record)


@contextmanager
def parts_of(path: Path) -> Iterator[None]:
    """Turns what goes wrong with the parts of a packed file into one sentence that names the file.

    Raises:
        CompSRTError: for every error but those of memory and of the system.
    """
    try:
        yield
    except CompSRTError as error:
        raise CompSRTError(f'`{path}`: {error}') from error
    except (LookupError, ArithmeticError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError(f'The parts of the packed file `{path}` do not fit each other: make it again.') from error
