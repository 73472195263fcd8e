"""Marks of onnx/tracing.py become QuantizeLinear and DequantizeLinear, and weights become codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper
from torch import Tensor, nn

from compsrt_basicsr.onnx.constants import Constants
from compsrt_basicsr.onnx.marking import MARKS, QUANTIZE, file_weights
from compsrt_basicsr.onnx.tracing import OPSET
from compsrt_basicsr.onnx.weights import from_zero_on, reasons_for_floats
from compsrt_basicsr.quant.convolutions import QuantConvTranspose2d
from compsrt_basicsr.quant.layers import QuantizedLayer, QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.quantizer import Quantizer
from compsrt_basicsr.quant.transform import spread

_TOLERANCE = 1e-3  # steps: how far an integer zero point may be from an integer in float32


def integer_zero(quantizer: Quantizer | nn.Identity) -> Tensor | None:
    """Returns k of a grid with Z = -k s for integers k in [0, 2^b - 1], of the shape of s; None for other grids."""
    if not isinstance(quantizer, Quantizer) or quantizer.code_range != 'strict' or quantizer.vector_axis is not None:
        return None
    scale, zero = quantizer.grid()
    exact = -zero / scale
    code = exact.round()
    near = (exact - code).abs() < _TOLERANCE
    return code if bool((near & (code >= 0) & (code < quantizer.levels)).all()) else None


@torch.no_grad()
def may_saturate(layer: QuantizedLayer) -> bool:
    """Returns whether a processor without VNNI could compute a layer wrongly.

    It adds the products of two pairs of codes in int16, saturating: 255 (w1 + w2) must not exceed 32767.
    """
    codes, quantizers = layer.weight_codes(), layer.weight_quantizers()
    for block, quantizer in zip(codes.chunk(len(quantizers)), quantizers):
        zero = integer_zero(quantizer)
        if zero is None:
            return True
        signed = (block.flatten(1) - zero.reshape(-1, 1)).float()
        pair = min(2, signed.shape[1])
        largest, smallest = signed.topk(pair).values.sum(1).max(), signed.topk(pair, largest=False).values.sum(1).min()
        if 255 * float(largest) > 32767 or 255 * float(smallest) < -32768:
            return True
    return False


class Rewriter:
    """Replaces the marks of a traced model in place.

    Args:
        model: a model of `trace_network`.
        network: the network that was traced.
        plain: names of the layers whose input is not quantized.
        as_codes: store their weights as codes; ONNX Runtime unpacks them once when it loads the file, because it folds
            Cast, Mul, Add and Conv of constants, though no DequantizeLinear.
        exact: the weights keep transform and scale; all layers are in `plain`.
    """

    def __init__(
        self, model: ModelProto, network: nn.Module, plain: set[str], as_codes: bool, exact: bool = False
    ) -> None:
        self._model, self._network, self._plain, self._as_codes = model, network, plain, as_codes
        self._exact = exact
        self._nodes: list[NodeProto] = []
        self._constants = Constants('compsrt.c')
        self._opset = OPSET

    def run(self) -> None:
        """Replaces the marks."""
        graph = self._model.graph
        for node in graph.node:
            if node.domain != MARKS:
                self._nodes.append(node)
                continue
            name = node.attribute[0].s.decode()
            if node.op_type == QUANTIZE:
                self._activation(node.input[0], node.output[0], name)
            else:
                self._weight(node.output[0], *name.rsplit(':', 1))
        del graph.node[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._constants.tensors())
        del self._model.opset_import[:]
        opset = helper.make_opsetid('', self._opset)
        self._model.opset_import.append(opset)
        self._model.ir_version = helper.find_min_ir_version_for([opset])

    def _activation(self, x: str, result: str, name: str) -> None:
        quantizer = self._network.get_submodule(name)
        assert isinstance(quantizer, Quantizer)
        zero = integer_zero(quantizer)
        assert zero is not None
        scale, code = quantizer.grid()[0], int(zero)
        if quantizer.levels < 256:
            bounds = (-code * float(scale), (quantizer.levels - 1 - code) * float(scale))
            x = self._op('Clip', x, *(self._const(np.float32(bound)) for bound in bounds))
        self._pair(x, result, self._const(_array(scale)), self._const(np.array(code, np.uint8)))

    def _pair(self, x: str, result: str, scale: str, zero: str) -> None:
        codes = self._op('QuantizeLinear', x, scale, zero)
        self._nodes.append(helper.make_node('DequantizeLinear', [codes, scale, zero], [result]))

    def _weight(self, result: str, name: str, index: str) -> None:
        layer, part = self._network.get_submodule(name), int(index)
        assert isinstance(layer, QuantizedLayer)
        plain = name in self._plain
        quantizer = layer.weight_quantizers()[part]
        floats = not isinstance(quantizer, Quantizer) or bool(reasons_for_floats(layer)[part])
        if floats or (plain and not self._as_codes):
            weights = layer.quantized_weights() if self._exact else file_weights(layer, plain)
            last = self._const(_array(weights[part]))
            self._nodes.append(helper.make_node('Identity', [last], [result]))
            return
        codes = layer.weight_codes().chunk(len(layer.weight_quantizers()))[part]
        if plain:
            self._codes(result, layer, quantizer, codes)
        else:
            self._int8(result, layer, quantizer, codes)

    def _int8(self, result: str, layer: QuantizedLayer, quantizer: Quantizer, codes: Tensor) -> None:
        """Adds DequantizeLinear of a weight in int8, or in uint8 if its zero points are not in the middle."""
        scale, zero = quantizer.grid()[0].reshape(-1), integer_zero(quantizer)
        assert zero is not None
        zero = zero.reshape(-1)
        middle = quantizer.levels // 2
        kind = np.int8 if bool((zero == middle).all()) else np.uint8
        shift = middle if kind is np.int8 else 0
        axis = 1 if _transposed(layer) else 0
        values = codes.transpose(0, 1) if axis else codes
        shape = (-1,) if scale.numel() > 1 else ()
        inputs = [
            self._const((values - shift).cpu().numpy().astype(kind)),
            self._const(_array(scale.reshape(shape))),
            self._const((zero - shift).reshape(shape).cpu().numpy().astype(kind)),
        ]
        self._nodes.append(helper.make_node('DequantizeLinear', inputs, [result], axis=axis))

    def _codes(self, result: str, layer: QuantizedLayer, quantizer: Quantizer, codes: Tensor) -> None:
        """Adds s q + Z of stored codes, and undoes transform and scale of the input."""
        codes, scale, zero = from_zero_on(quantizer, codes)
        shape = (-1,) + (1,) * (codes.ndim - 1) if scale.numel() > 1 else ()
        stored, opset = self._constants.codes(codes, quantizer.bits)
        self._opset = max(self._opset, opset)
        x = self._op('Cast', stored, to=TensorProto.FLOAT)
        x = self._op('Mul', x, self._const(_array(scale.reshape(shape))))
        x = self._op('Add', x, self._const(_array(zero.reshape(shape))))
        if self._exact:
            self._nodes.append(helper.make_node('Identity', [x], [result]))
        else:
            self._in_input_domain(result, layer, x, codes)

    def _in_input_domain(self, result: str, layer: QuantizedLayer, x: str, codes: Tensor) -> None:
        """Adds what undoes transform and scale of the input, and the order of the dimensions of the layer."""
        matrix = layer.transform.matrix
        if matrix is not None and codes.ndim == 2:
            x = self._op('MatMul', x, self._const(_array(matrix.T)))
        elif matrix is not None:
            x = self._op('Conv', x, self._const(_array(matrix[:, :, None, None])))
        if layer.input_scale is not None:
            x = self._op('Div', x, self._const(_array(spread(layer.input_scale, codes))))
        if _transposed(layer):
            order = (1, 0, *range(2, codes.ndim))
            self._nodes.append(helper.make_node('Transpose', [x], [result], perm=order))
        else:
            self._nodes.append(helper.make_node('Identity', [x], [result]))

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f'compsrt.v{len(self._nodes)}'
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _const(self, array: np.ndarray | np.generic) -> str:
        return self._constants.array(array)


def _array(x: Tensor) -> np.ndarray:
    return x.detach().cpu().float().numpy()


def _transposed(layer: nn.Module) -> bool:
    return isinstance(layer, (QuantLinear, QuantSplitLinear, QuantConvTranspose2d))
