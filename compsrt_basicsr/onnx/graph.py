"""Builder of ONNX graphs that stores equal constants and equal nodes once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper
from torch import Tensor

from compsrt_basicsr.onnx.constants import Constants, in_float16
from compsrt_basicsr.version import __version__

BASE_OPSET = 17  # the first with LayerNormalization
Values = Tensor | np.ndarray | Sequence[float] | float


class Graph:
    """Nodes and constants of a graph of standard ONNX operators, referred to by name.

    Attributes:
        opset: the lowest opset that has all operators and types added so far.
    """

    def __init__(self) -> None:
        self.opset = BASE_OPSET
        self._nodes: dict[Any, NodeProto] = {}
        self._constants = Constants('c')

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds an operator with one output, or reuses an equal one.

        Args:
            kind: an operator of the domain ai.onnx.
            inputs: names of its inputs.
            attributes: its attributes; lists must be given as tuples.

        Returns:
            The name of its output.
        """
        key = (kind, inputs, tuple(sorted(attributes.items())))
        if key not in self._nodes:
            self._nodes[key] = helper.make_node(kind, inputs, [f'v{len(self._nodes)}'], **attributes)
        return self._nodes[key].output[0]

    def const(self, values: Values) -> str:
        """Adds a float32 constant, stored as float16 if that is lossless.

        Stores float16 followed by a Cast if the values, or their ratios to the largest magnitude (with an additional
        Mul), are exact in float16. The latter holds for Hadamard matrices, which are one number with signs.
        """
        array = _float32(values)
        found = in_float16(array)
        if found is None:
            return self._constants.array(array)
        half, factor = found
        name = self.op('Cast', self._constants.array(half), to=TensorProto.FLOAT)
        return name if factor == 1 else self.op('Mul', name, self.const(float(factor)))

    def ints(self, *values: int) -> str:
        """Adds a vector of int64, such as a shape."""
        return self._constants.array(np.array(values, np.int64))

    def indices(self, values: Tensor) -> str:
        """Adds constant int32 indices for a Gather, of any shape."""
        return self._constants.array(values.cpu().numpy().astype(np.int32))

    def codes(self, codes: Tensor, bits: int, scale: Tensor, zero: Tensor) -> str:
        """Adds the values s q + Z of constant codes, stored in 2, 4 or 8 bits.

        DequantizeLinear only has an integer zero point, so Z is added by a separate Add. The Add also keeps ONNX
        Runtime from computing the following product in int8.

        Args:
            codes: integers 0 to 2^bits - 1, (O, ...).
            bits: 2 to 8.
            scale: s, one element, or one for each of the O rows.
            zero: Z, of the shape of `scale`.
        """
        name, opset = self._constants.codes(codes, bits)
        self.opset = max(self.opset, opset)
        rows = (-1,) if scale.numel() > 1 else ()
        values = self.op('DequantizeLinear', name, self.const(scale.reshape(rows)), axis=0)
        return self.op('Add', values, self.const(zero.reshape(rows + (1,) * (codes.ndim - 1) if rows else ())))

    def model(
        self,
        inputs: Mapping[str, tuple[int | str, ...]],
        outputs: Mapping[str, tuple[int | str, ...]],
        metadata: Mapping[str, str],
        text: str,
    ) -> ModelProto:
        """Builds the finished model.

        Args:
            inputs: shapes of the float32 inputs by name; a dimension is a number or a name.
            outputs: shapes of the outputs, by the names that `op` returned.
            metadata: properties of the model.
            text: human-readable description.
        """
        given, returned = (
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side.items()]
            for side in (inputs, outputs)
        )
        constants = self._constants.tensors()
        graph = helper.make_graph(list(self._nodes.values()), 'compsrt', given, returned, constants)
        opset = helper.make_opsetid('', self.opset)
        model = helper.make_model(
            graph,
            opset_imports=[opset],
            ir_version=helper.find_min_ir_version_for([opset]),
            producer_name='compsrt_basicsr',
            producer_version=__version__,
            doc_string=text,
        )
        helper.set_model_props(model, dict(metadata))
        return model

    def rename(self, name: str, new: str) -> None:
        """Renames the output of the last node."""
        node = next(reversed(self._nodes.values()))
        assert node.output[0] == name
        node.output[0] = new


def _float32(values: Values) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().to('cpu', torch.float32).numpy()
    return np.asarray(values, dtype=np.float32, order='C')  # ascontiguousarray would turn scalars into vectors
