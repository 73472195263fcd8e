"""Constants of ONNX graphs: equal ones once, codes in their bits, floats in float16 where that is lossless."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, numpy_helper
from torch import Tensor

from compsrt_basicsr.packing.bitpack import pack_bits

# By bits of a code: the type that stores it, the bits of that type, the first opset whose operators accept it.
_CODE_TYPES = {
    2: (TensorProto.UINT2, 2, 25),
    3: (TensorProto.UINT4, 4, 21),
    4: (TensorProto.UINT4, 4, 21),
    **dict.fromkeys((5, 6, 7, 8), (TensorProto.UINT8, 8, 1)),
}
SMALL = 32  # elements; for smaller constants a Cast costs more bytes than it saves


class Constants:
    """Constants by name; equal ones have one name.

    Args:
        prefix: of the names.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._tensors: dict[tuple[int, tuple[int, ...], bytes], TensorProto] = {}

    def add(self, tensor: TensorProto) -> str:
        """Stores a tensor and returns its name; its own is not used."""
        if not tensor.HasField('raw_data'):
            tensor = numpy_helper.from_array(numpy_helper.to_array(tensor))
        key = (tensor.data_type, tuple(tensor.dims), tensor.raw_data)
        if key not in self._tensors:
            copy = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=tensor.raw_data)
            copy.name = f'{self._prefix}{len(self._tensors)}'
            self._tensors[key] = copy
        return self._tensors[key].name

    def array(self, values: np.ndarray | np.generic) -> str:
        """Stores an array."""
        return self.add(numpy_helper.from_array(np.asarray(values, order='C')))  # scalars stay scalars

    def codes(self, codes: Tensor, bits: int) -> tuple[str, int]:
        """Stores codes 0 to 2^bits - 1; returns the name and the first opset that knows their type."""
        kind, stored, opset = _CODE_TYPES[bits]
        raw = pack_bits(codes.cpu().numpy(), stored).tobytes()
        return self.add(TensorProto(data_type=kind, dims=codes.shape, raw_data=raw)), opset

    def tensors(self) -> list[TensorProto]:
        """Returns all constants."""
        return list(self._tensors.values())


def in_float16(array: np.ndarray) -> tuple[np.ndarray, np.float32] | None:
    """Returns float16 values and a factor whose product is a float32 array exactly, or None.

    The factor is 1 or the largest magnitude: a Hadamard matrix is one number with signs.
    """
    if array.size < SMALL:
        return None
    for factor in (np.float32(1), np.float32(np.abs(array).max())):
        with np.errstate(over='ignore', invalid='ignore', divide='ignore'):
            half = (array / factor).astype(np.float16)
        if np.array_equal(half.astype(np.float32) * factor, array):
            return half, factor
    return None
