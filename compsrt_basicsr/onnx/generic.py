"""Export of any network to files for ONNX Runtime and OpenVINO, compared with torch at several sizes.

What can run in 8 bits is written with QuantizeLinear and DequantizeLinear: layers without transform whose grids have
integer zero points, see `QuantConfig.zero_point`. ONNX Runtime computes convolutions in 8 bits only if their outputs
are quantized too, see `QuantConfig.quantize_outputs`; OpenVINO does without. All other layers get their quantized
weight and leave their input in floating point, because fake quantization costs more time than it saves.

Processors without VNNI add two products of codes in 16 bits. That overflows for many weights of 8 bits, and for none of
7 bits; layers where it can happen stay in floating point, so that a file computes the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from compsrt_basicsr.archs.rebuild import Geometry
from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx.check import (
    ROUNDED_LEAST,
    SMOOTH_LEAST,
    Comparison,
    Image,
    Sample,
    check_agreement,
    check_quality,
    compare,
    model_without_rounding,
    psnr,
    synthetic_samples,
    torch_result,
    without_rounding,
)
from compsrt_basicsr.onnx.engines import ONNXRuntimeSession, Session
from compsrt_basicsr.onnx.marking import marking
from compsrt_basicsr.onnx.model import INPUT, check_standard, describe
from compsrt_basicsr.onnx.openvino import OpenVINOSession, convert
from compsrt_basicsr.onnx.qdq import Rewriter, integer_zero, may_saturate
from compsrt_basicsr.onnx.tidy import tidy
from compsrt_basicsr.onnx.tracing import trace_network
from compsrt_basicsr.onnx.weights import reasons_for_floats
from compsrt_basicsr.quant.functional.padding import pad_to_multiple
from compsrt_basicsr.quant.layers import QuantizedLayer, QuantLinear, QuantSplitLinear, quantized_layers
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.utils.atomic_write import atomic_path
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory
from compsrt_basicsr.utils.progress import SILENT, Progress

Target = Literal['onnx', 'openvino']
SUFFIXES: dict[Target, str] = {'onnx': '.onnx', 'openvino': '.xml'}
INT8, WEIGHT_ONLY, FLOAT, EXACT = 'int8', 'weight-only', 'float', 'exact'
_SAME_BATCH = 30.0  # dB: the codes of some activations differ, another image or a failure gives less
_LEAST_SIZES = 3  # a network that takes fewer of them is no network for images of any size


@dataclass(frozen=True)
class EngineFile:
    """A file for an engine.

    Attributes:
        file: the file; an OpenVINO model has its weights in a second one of this name with the suffix `.bin`.
        target: 'onnx' or 'openvino'.
        kind: 'int8' if layers run in 8 bits, 'weight-only' if weights are quantized and all else is floating point,
            'exact' if all activations are fake-quantized too, or 'float'.
        int8_layers: how many layers run in 8 bits.
        layers: how many layers are quantized.
        size: bytes, of both files.
        comparisons: with torch, one for each size and each image given.
        smooth: those without the rounding of activations, one for each size; none in full precision.
    """

    file: Path
    target: str
    kind: str
    int8_layers: int
    layers: int
    size: int
    comparisons: tuple[Comparison, ...]
    smooth: tuple[Comparison, ...]

    def __str__(self) -> str:
        parts = {
            INT8: f'{self.int8_layers} of {self.layers} quantized layers in 8 bits, the others with quantized weights',
            WEIGHT_ONLY: f'quantized weights in {self.layers} layers, activations in floating point',
            EXACT: f'quantized weights in {self.layers} layers, activations fake-quantized',
            FLOAT: 'full precision',
        }
        return f'{self.target}, {self.kind}: {parts[self.kind]}; {self.size:,} bytes'


def export_generic(
    loaded: LoadedNetwork,
    file: Path,
    target: Target = 'onnx',
    exact: bool = False,
    int8: bool = True,
    images: Sequence[Sample] = (),
    progress: Progress = SILENT,
) -> EngineFile:
    """Exports any network, compares the file with torch, and only then gives it its name.

    The file takes images of any height and width, as `compsrt upscale` does. A file of kind 'int8' or 'weight-only'
    rounds fewer activations than the network, never more: it is compared with the network without this rounding.

    Args:
        loaded: a network in full precision, or quantized and calibrated, on the CPU.
        file: where to write it; replaced if it exists. An OpenVINO model has the suffix `.xml`.
        target: 'onnx' for ONNX Runtime, 'openvino' for an OpenVINO model, by its own converter.
        exact: fake-quantize all activations in the file too, as torch does, which takes longer than full precision.
        int8: False: all layers run in floating point, with quantized weights.
        images: more images to compare on.
        progress: display of the comparison.

    Raises:
        CompSRTError: if the network cannot be exported, a quantizer is not calibrated, openvino is missing, or the file
            computes something else than torch.
    """
    if reason := getattr(loaded.network, 'onnx_obstacle', None):
        raise CompSRTError(f'{loaded.record["arch"]} cannot be exported: {reason}.')
    if target == 'openvino' and file.suffix != '.xml':
        raise CompSRTError(f'`{file}` is no name for an OpenVINO model: it needs the suffix `.xml`.')
    network, shape = loaded.network, Geometry(loaded.scale, loaded.multiple, loaded.channels)
    traced = engine_model(loaded, target, exact, int8)
    layers = len(quantized_layers(network))
    count = layers - len(traced.plain)
    kind = FLOAT if not layers else EXACT if exact else INT8 if count else WEIGHT_ONLY
    rounds = exact or bool(traced.marked)
    samples, smooth = _samples(network, shape), []
    references: list[Image] | None = None
    if layers:
        with traced.without_rounding(network) as smooth_model:
            smooth = compare(network, shape, ONNXRuntimeSession(smooth_model, file), samples)
            check_agreement(smooth, SMOOTH_LEAST)
            everything = [*samples, *images]
            references = [torch_result(network, shape, sample) for sample in everything] if rounds else None
    least = ROUNDED_LEAST if rounds and layers else SMOOTH_LEAST
    with traced.computing_alike(network), _written(traced.model, file, target) as (session, parts):
        found = compare(network, shape, session, progress.track([*samples, *images], 'compare', 'image'), references)
        check_agreement(found, least)
        check_quality(found)
        size = sum(part.stat().st_size for part in parts)
    return EngineFile(file, target, kind, count, layers, size, tuple(found), tuple(smooth))


@dataclass(frozen=True)
class EngineModel:
    """An ONNX model of a network, not yet compared with torch.

    Attributes:
        model: the model.
        marked: names of the quantizers of activations in it.
        plain: names of the quantized layers that run in floating point.
        exact: whether all activations are fake-quantized.
    """

    model: ModelProto
    marked: Sequence[str]
    plain: Sequence[str]
    exact: bool

    @contextmanager
    def computing_alike(self, network: nn.Module) -> Iterator[None]:
        """Inside this context, the network computes what the model computes."""
        with nullcontext() if self.exact else marking(network, self.marked, self.plain):
            yield

    @contextmanager
    def without_rounding(self, network: nn.Module) -> Iterator[bytes]:
        """Yields the model without rounding of activations; inside the context, the network rounds none either.

        The layers of the network keep their code, with the transforms that the model may leave out.
        """
        if self.exact:
            with without_rounding(network):
                yield model_without_rounding(self.model)
        else:
            with marking(network, self.marked, self.plain, rounding=False, layers=False):
                yield clipping_only(self.model).SerializeToString()


def engine_model(loaded: LoadedNetwork, target: Target = 'onnx', exact: bool = False, int8: bool = True) -> EngineModel:
    """Returns the ONNX model of any network; see `export_generic`.

    Weights of quantized layers are stored as codes: 2 bits as UINT2 (opset 25), 3 and 4 bits as UINT4 (opset 21), 5 to
    8 bits as UINT8. In paper range, those that are pruned or have more than 2^b levels are fake-quantized float32.
    Other constants are float32, or float16 if that is lossless. OpenVINO gets all values as float32.

    Raises:
        CompSRTError: if the network cannot be exported, or a quantizer is not calibrated.
    """
    network, shape = loaded.network, Geometry(loaded.scale, loaded.multiple, loaded.channels)
    if missing := [name for name, quantizer in quantizers(network).items() if not quantizer.is_calibrated]:
        raise CompSRTError(f'Quantizer `{missing[0]}` is not calibrated: calibrate the network before the export.')
    layers = quantized_layers(network)
    plain = [name for name, layer in layers.items() if exact or not int8 or not _runs_in_int8(layer, target)]
    marked = _marked(layers, set(plain))
    model = trace_network(network, shape, marked, plain, target == 'openvino', exact)
    Rewriter(model, network, set(plain), target == 'onnx', exact).run()
    tidy(model, halve=target == 'onnx')
    describe(model, shape, loaded.record)
    check_standard(model)
    if target == 'openvino' or not _takes_batches(model, shape):
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
    return EngineModel(model, marked, plain, exact)


def _takes_batches(model: ModelProto, shape: Geometry) -> bool:
    """Returns whether a model computes two images at once as it computes each of them."""
    session = ONNXRuntimeSession(model.SerializeToString())
    images = torch.rand(2, shape.channels, 24, 32, generator=torch.Generator().manual_seed(0)).numpy()
    try:
        single = [session.run(None, {INPUT: image[None]})[0] for image in images]
        (both,) = session.run(None, {INPUT: images})
    except CompSRTError:
        return False
    expected = np.concatenate(single)
    return both.shape == expected.shape and psnr(both, expected) > _SAME_BATCH


def open_engine(file: Path, target: Target) -> Session:
    """Opens a file of `export_generic`, with as many threads as torch.

    Raises:
        CompSRTError: if the engine cannot run it.
    """
    return ONNXRuntimeSession(file) if target == 'onnx' else OpenVINOSession(file)


def open_unchecked(loaded: LoadedNetwork, target: Target) -> Session:
    """Opens what `export_generic` would write, without comparing it with torch, to measure its time.

    Raises:
        CompSRTError: if the network cannot be exported, or the engine cannot run it.
    """
    model = engine_model(loaded, target).model
    with (
        TemporaryDirectory() as folder,
        _written(model, Path(folder, f'model{SUFFIXES[target]}'), target) as (session, _),
    ):
        return session


def _runs_in_int8(layer: Any, target: Target) -> bool:
    """Returns whether an engine can compute a layer in 8 bits, and gains by it."""
    linear = isinstance(layer, (QuantLinear, QuantSplitLinear))
    acts: list[Any] = layer.act_quantizers() if linear else [layer.act_quantizer]
    if target == 'onnx' and not linear:
        acts = [*acts, layer.out_quantizer]
    grids = [*acts, *layer.weight_quantizers()]
    return (
        not may_saturate(layer)
        and layer.transform.matrix is None
        and layer.input_scale is None
        and all(integer_zero(quantizer) is not None for quantizer in grids)
        and not any(reasons_for_floats(layer))
    )


def _marked(layers: Mapping[str, QuantizedLayer], plain: set[str]) -> list[str]:
    """Returns the names of the quantizers of activations of all layers that run in 8 bits, one for each part."""
    names = []
    for name, layer in layers.items():
        own = set(layer.weight_quantizers())
        inner = quantizers(layer) if name not in plain else {}
        names += [f'{name}.{part}' for part, quantizer in inner.items() if quantizer not in own]
    return names


def _samples(network: nn.Module, shape: Geometry) -> list[Sample]:
    """Returns the synthetic images of the sizes that the network takes."""
    every = synthetic_samples(shape.channels)
    samples = [sample for sample in every if _takes(network, pad_to_multiple(sample.image, shape.multiple))]
    if len(samples) < _LEAST_SIZES:
        raise CompSRTError(
            f'{type(network).__name__} takes {len(samples)} of {len(every)} sizes: it cannot be checked.'
        )
    return samples


@torch.no_grad()
def _takes(network: nn.Module, image: Tensor) -> bool:
    """Returns whether a network takes images of a size; many need some pixels more than one."""
    try:
        return bool(torch.isfinite(network(image)).all())
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        return False


@contextmanager
def _written(model: ModelProto, file: Path, target: Target) -> Iterator[tuple[Session, list[Path]]]:
    """Writes a model and yields a session with it; the files get their names if the block ends without an error."""
    with atomic_path(file) as temporary:
        if target == 'onnx':
            temporary.write_bytes(model.SerializeToString())
            yield ONNXRuntimeSession(temporary, file), [temporary]
            return
        with atomic_path(file.with_suffix('.bin')) as weights:
            convert(model, temporary, weights, file)
            yield OpenVINOSession(temporary, weights, file), [temporary, weights]


def _values(node: NodeProto, constants: Mapping[str, TensorProto]) -> np.ndarray:
    """Returns the values of a DequantizeLinear of constants."""
    codes, scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input)
    shape = [1] * codes.ndim
    if scale.ndim:
        shape[node.attribute[0].i] = -1
    return (codes.astype(np.float32) - zero.reshape(shape).astype(np.float32)) * scale.reshape(shape)


def clipping_only(model: ModelProto) -> ModelProto:
    """Returns a copy of a model in which pairs of QuantizeLinear and DequantizeLinear clip instead."""
    copy = ModelProto.FromString(model.SerializeToString())
    graph = copy.graph
    constants = {constant.name: constant for constant in graph.initializer}
    pairs = {node.output[0]: node for node in graph.node if node.op_type == 'QuantizeLinear'}
    nodes: list[NodeProto] = []
    for node in graph.node:
        pair = pairs.get(node.input[0]) if node.op_type == 'DequantizeLinear' else None
        if node.op_type == 'DequantizeLinear' and pair is None:  # else ONNX Runtime itself rounds the other operand
            graph.initializer.append(numpy_helper.from_array(_values(node, constants), node.output[0]))
            continue
        if pair is None:
            nodes += [] if node.op_type == 'QuantizeLinear' else [node]
            continue
        scale, zero = (numpy_helper.to_array(constants[name]).item() for name in pair.input[1:])
        bounds = [f'{node.output[0]}.{end}' for end in ('low', 'high')]
        for name, code in zip(bounds, (0, 255)):
            graph.initializer.append(numpy_helper.from_array(np.array((code - zero) * scale, np.float32), name))
        nodes.append(helper.make_node('Clip', [pair.input[0], *bounds], node.output))
    del graph.node[:]
    graph.node.extend(nodes)
    return copy
