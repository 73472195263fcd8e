"""The index of a packed file: which tensor is where, as compressed JSON, read without trust."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.untrusted_json import parse_json

_MIN_BITS, _MAX_BITS = 2, 8
_MAX_TEXT = 2**22  # bytes; SwinIR-light has about 65,000
_TEXT_PER_BYTE, _FREE_TEXT = 32, 2**16  # bytes of text for each of the file: a real index shrinks to a tenth
_MAX_NAME, _MAX_DIMENSIONS = 512, 8
_CODES_PER_BYTE, _FREE_CODES = 16, 2**20  # more than the codes of any real network can be compressed to
EXACT_DTYPES = ('int64', 'int32', 'uint8', 'bool', 'float64')


@dataclass(frozen=True)
class LayerEntry:
    """One quantized weight: its name, b, shape, the numbers of its quantizers, and whether it is pruned."""

    name: str
    bits: int
    shape: tuple[int, ...]
    quantizers: tuple[int, ...]
    pruned: bool

    @property
    def rows(self) -> int:
        """Rows of each block."""
        return self.shape[0] // len(self.quantizers)

    @property
    def columns(self) -> int:
        """Codes in a row."""
        return math.prod(self.shape[1:])


@dataclass(frozen=True)
class Index:
    """What the arrays of a file stand for.

    Attributes:
        quantizers: name and number of grids, in the order of `grids`.
        layers: in the order of `codes`.
        rest: name and shape, in the order of `rest`.
        exact: name, dtype and shape, in the order of `exact`.
        crc32: of all codes, one byte each, as the decoder must return them.
    """

    quantizers: list[tuple[str, int]]
    layers: list[LayerEntry]
    rest: list[tuple[str, tuple[int, ...]]]
    exact: list[tuple[str, str, tuple[int, ...]]]
    crc32: int

    def to_array(self) -> NDArray[np.uint8]:
        """Returns the index as it is stored."""
        plain = {**asdict(self), 'layers': [list(asdict(layer).values()) for layer in self.layers]}
        text = json.dumps(plain, separators=(',', ':')).encode()
        return np.frombuffer(zlib.compress(text, 9), np.uint8)

    @classmethod
    def from_array(cls, data: NDArray[np.uint8], size: int) -> Index:
        """Reads and checks an index.

        Args:
            data: as `to_array` returned it.
            size: bytes of the file, which limit how many codes it can have.

        Raises:
            CompSRTError: if the index is damaged, or names more codes than the file can hold.
        """
        try:
            longest = min(_MAX_TEXT, _FREE_TEXT + _TEXT_PER_BYTE * size)
            plain = parse_json(zlib.decompressobj().decompress(data.tobytes(), longest))
            index = cls(
                [(_name(name), _whole(count, 1)) for name, count in plain['quantizers']],
                [_layer(*entry) for entry in plain['layers']],
                [(_name(name), _shape(shape)) for name, shape in plain['rest']],
                [(_name(name), _dtype(dtype), _shape(shape)) for name, dtype, shape in plain['exact']],
                _whole(plain['crc32']),
            )
            index._check()
        except (zlib.error, ValueError, TypeError, KeyError, IndexError) as error:
            raise CompSRTError('The index of the packed file is damaged: make the file again.') from error
        if sum(math.prod(layer.shape) for layer in index.layers) > max(_FREE_CODES, _CODES_PER_BYTE * size):
            raise CompSRTError(
                f'The file has more than {_CODES_PER_BYTE} codes for each of its bytes: make it with `--codec plain`.'
            )
        return index

    def _check(self) -> None:
        """Raises ValueError where the parts do not fit each other."""
        rest = [*self.rest, *self.exact]
        for names in (self.quantizers, [(layer.name,) for layer in self.layers], rest):
            if len({name[0] for name in names}) < len(names):
                raise ValueError('a name occurs twice')
        blocks = [number for layer in self.layers for number in layer.quantizers]
        if not blocks or len(set(blocks)) < len(blocks):  # so that `grids` limits the number of blocks
            raise ValueError('a block has no quantizer of its own')
        for layer in self.layers:
            grids = {self.quantizers[number][1] for number in layer.quantizers}
            if not grids <= {1, layer.rows} or layer.shape[0] != layer.rows * len(layer.quantizers):
                raise ValueError('grids do not fit the rows')
            if layer.rows * layer.columns == 0:
                raise ValueError('a weight is empty')


def _layer(name: Any, bits: Any, shape: Any, quantizers: Any, pruned: Any) -> LayerEntry:
    sizes = _shape(shape)
    if not isinstance(pruned, bool) or len(sizes) not in (2, 4) or not quantizers:
        raise ValueError('no layer')
    return LayerEntry(
        _name(name), _whole(bits, _MIN_BITS, _MAX_BITS), sizes, tuple(_whole(n) for n in quantizers), pruned
    )


def _name(name: Any) -> str:
    if not isinstance(name, str) or len(name) > _MAX_NAME or not name.isprintable():
        raise ValueError('no name')
    return name


def _dtype(name: Any) -> str:
    if name not in EXACT_DTYPES:
        raise ValueError('no dtype')
    return name


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError('no shape')
    return tuple(_whole(size) for size in shape)


def _whole(number: Any, smallest: int = 0, largest: int = 2**32) -> int:
    if type(number) is not int or not smallest <= number <= largest:
        raise ValueError('no whole number')
    return number
