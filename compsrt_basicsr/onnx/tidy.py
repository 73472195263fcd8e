"""A traced graph without repetitions: equal constants and equal nodes once, short names, nothing that nobody reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from compsrt_basicsr.onnx.constants import SMALL, Constants, in_float16

_GRIDS = ('QuantizeLinear', 'DequantizeLinear')  # engines look for constants at their inputs
_RANDOM = ('Random', 'Bernoulli', 'Multinomial', 'Dropout')


def tidy(model: ModelProto, halve: bool) -> None:
    """Tidies the graph of a model in place.

    Args:
        model: a model of standard operators.
        halve: store constants in 16 bits where that is lossless, followed by a Cast. ONNX Runtime folds it when it
            loads the file.
    """
    graph, constants = model.graph, Constants('c')
    renamed = {constant.name: constants.add(constant) for constant in graph.initializer}
    nodes: dict[object, NodeProto] = {}
    results = {output.name for output in graph.output}
    for node in graph.node:
        if node.op_type == 'Constant' and node.attribute[0].name == 'value':
            renamed[node.output[0]] = constants.add(node.attribute[0].t)
            continue
        _rename(node, renamed)
        key = _key(node)
        if key in nodes and results.isdisjoint(node.output):
            renamed.update(zip(node.output, nodes[key].output))
        else:
            nodes.setdefault(key, node)
            if nodes[key] is not node:
                nodes[node.output[0]] = node
    kept = _without_unused(list(nodes.values()), results)
    used = {name for node in kept for name in _inputs(node)}
    tensors = [tensor for tensor in constants.tensors() if tensor.name in used]
    before: list[NodeProto] = []
    if halve:
        grids = {name for node in kept if node.op_type in _GRIDS for name in node.input}
        tensors = [x for tensor in tensors for x in ((tensor,) if tensor.name in grids else _halved(tensor, before))]
    _shorten(kept, results | {given.name for given in graph.input} | {tensor.name for tensor in constants.tensors()})
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend([*before, *kept])
    graph.initializer.extend(tensors)


def _shorten(nodes: Sequence[NodeProto], fixed: set[str]) -> None:
    """Numbers the values between the nodes: traced names take as many bytes as the weights of a small network."""
    names: dict[str, str] = {'': ''}
    for node in nodes:
        node.name = ''
        _rename(node, names)
        for index, name in enumerate(node.output):
            if name not in fixed:
                node.output[index] = names.setdefault(name, f'v{len(names)}')


def _halved(tensor: TensorProto, casts: list[NodeProto]) -> Iterator[TensorProto]:
    """Yields what is stored for a constant, and adds the nodes that make it to `casts`."""
    if tensor.data_type == TensorProto.INT64:
        array = numpy_helper.to_array(tensor)
        if array.size >= SMALL and array.min() >= 0 and array.max() < 2**16:
            yield numpy_helper.from_array(array.astype(np.uint16), f'{tensor.name}.short')
            casts.append(helper.make_node('Cast', [f'{tensor.name}.short'], [tensor.name], to=TensorProto.INT64))
            return
    found = in_float16(numpy_helper.to_array(tensor)) if tensor.data_type == TensorProto.FLOAT else None
    if found is None:
        yield tensor
        return
    half, factor = found
    name = tensor.name
    yield numpy_helper.from_array(half, f'{name}.half')
    result = name if factor == 1 else f'{name}.cast'
    casts.append(helper.make_node('Cast', [f'{name}.half'], [result], to=TensorProto.FLOAT))
    if factor != 1:
        yield numpy_helper.from_array(np.array(factor), f'{name}.factor')
        casts.append(helper.make_node('Mul', [result, f'{name}.factor'], [name]))


def _key(node: NodeProto) -> object:
    """Returns what equal nodes have in common; nodes with branches, or with random results, equal no other."""
    inner = any(attribute.HasField('g') or attribute.graphs for attribute in node.attribute)
    if inner or node.op_type.startswith(_RANDOM):
        return node.output[0]
    attributes = sorted((a.name, a.SerializeToString(deterministic=True)) for a in node.attribute)
    return node.domain, node.op_type, tuple(node.input), tuple(attributes), len(node.output)


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    """Replaces the names that a node reads, those of its branches included."""
    for index, name in enumerate(node.input):
        node.input[index] = names.get(name, name)
    for inner in _branches(node):
        for below in inner.node:
            _rename(below, names)


def _branches(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField('g'):
            yield attribute.g
        yield from attribute.graphs


def _inputs(node: NodeProto) -> Iterator[str]:
    """Yields the names that a node reads, those of its branches included."""
    yield from node.input
    for inner in _branches(node):
        for below in inner.node:
            yield from _inputs(below)
        yield from (output.name for output in inner.output)


def _without_unused(nodes: Sequence[NodeProto], needed: set[str]) -> list[NodeProto]:
    """Leaves out the nodes whose results nobody reads, such as what computed a weight that is stored as codes now."""
    kept: list[NodeProto] = []
    needed = set(needed)
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed.update(_inputs(node))
    return kept[::-1]
