"""ONNX models compute the same as their networks at any size, with standard operators and weights in few bits."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from tiny_networks import EDSR, TINY, tiny_edsr, tiny_quantized, tiny_swinir

from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.archs.rebuild import geometry
from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx.check import without_rounding
from compsrt_basicsr.onnx.constants import in_float16
from compsrt_basicsr.onnx.generic import engine_model
from compsrt_basicsr.onnx.model import check_standard, round_rest_
from compsrt_basicsr.packing.bitpack import unpack_bits
from compsrt_basicsr.quant.functional.padding import pad_to_multiple
from compsrt_basicsr.quant.functional.transform import transform_matrix
from compsrt_basicsr.quant.layers import QuantizedLayer
from compsrt_basicsr.quant.record import decode_record

SIZES = [(1, 1), (7, 5), (8, 8), (16, 16), (9, 33)]  # 16 is the img_size of the tiny networks
LAYERS = 4  # of the tiny EDSR, whose graph is traced much faster than that of a SwinIR
LAST_BITS = 1e-5  # float32 has a relative error of 6e-8 in each of some hundred operations


def to_onnx(network, record):
    """Exports with all activations fake-quantized."""
    shape = geometry(record)
    loaded = LoadedNetwork(network, shape.scale, shape.multiple, shape.channels, '', '', record)
    return engine_model(loaded, exact=True).model


def record_of(network, **changes):
    if hasattr(network, 'quant_record'):
        return decode_record(network.quant_record.json)
    return {'arch': 'SwinIR', 'args': {**TINY, **changes}, 'quant': None}


def run(model, images):
    """Runs a session with default options."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    return [session.run(None, {'input': image.numpy()})[0] for image in images]


def smooth(model):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for node in model.graph.node:
        node.op_type = {'Round': 'Identity'}.get(node.op_type, node.op_type)
    return model


def differences(network, model, scale=2, multiple=8, channels=3):
    """|theirs - ours| relative to the largest value, for each size; untrained networks exceed [0, 1] by far."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(2, channels, *size, generator=generator) for size in SIZES]
    found = []
    for image, theirs in zip(images, run(model, images)):
        height, width = image.shape[-2:]
        with torch.no_grad():
            ours = network(pad_to_multiple(image, multiple))[:, :, : height * scale, : width * scale].numpy()
        assert theirs.shape == ours.shape
        found.append(np.abs(theirs - ours) / max(np.abs(ours).max(), 1))
    return found


def assert_same(network, model, **shape):
    """Equal up to float32 rounding without the rounding of activations; nearly equal with it."""
    with without_rounding(network):
        assert max(d.max() for d in differences(network, smooth(model), **shape)) < LAST_BITS
    assert max(d.mean() for d in differences(network, model, **shape)) < 1e-3


CONFIGS = [
    {'weight_bits': 2, 'act_bits': 2},
    {'weight_bits': 8, 'act_bits': 8},
    {'weight_bits': 3, 'granularity': 'channel', 'quantize_convs': True, 'quantize_head_tail': True},
    {'transform': 'padded', 'quantize_convs': True},
    {'transform': 'none', 'prune_ratio': 0.4},
    {'softmax': 'deferred', 'attention_transform': False, 'act_bits': 2},
    {'equalize': True, 'quantize_convs': True, 'quantize_head_tail': True},
    {'code_range': 'paper', 'transform': 'padded'},
    {'code_range': 'paper', 'prune_ratio': 0.4, 'quantize_convs': True},
]


@pytest.mark.parametrize('quant', CONFIGS, ids=str)
def test_quantized_swinir(quant):
    network = tiny_quantized(quant)
    assert_same(network, to_onnx(network, record_of(network)))


def test_full_precision_swinir_at_its_img_size_and_others():
    network = tiny_swinir()
    found = differences(network, to_onnx(network, record_of(network)))
    assert max(d.max() for d in found) < LAST_BITS


@pytest.mark.parametrize(
    ('changes', 'shape'),
    [
        ({'upsampler': 'pixelshuffle', 'upscale': 3}, {'scale': 3}),
        ({'upsampler': 'nearest+conv', 'upscale': 4}, {'scale': 4}),
        ({'upsampler': 'nearest+conv', 'upscale': 2}, {'scale': 2}),
        ({'upsampler': '', 'upscale': 1, 'in_chans': 1}, {'scale': 1, 'channels': 1}),
        ({'upsampler': '', 'upscale': 1, 'window_size': 7, 'img_size': 21, 'img_range': 255.0},
         {'scale': 1, 'multiple': 7}),
        ({'resi_connection': '3conv', 'qkv_bias': False, 'patch_norm': False}, {}),
        ({'depths': (1, 2), 'num_heads': (2, 3)}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_variants_of_swinir(changes, shape):
    network = tiny_swinir(**changes)
    found = differences(network, to_onnx(network, record_of(network, **changes)), **shape)
    assert max(d.max() for d in found) < LAST_BITS


@pytest.mark.parametrize('quant', [{}, {'transform': 'padded', 'weight_bits': 2}], ids=str)
def test_edsr(quant):
    network = tiny_edsr(**quant)
    assert_same(network, to_onnx(network, record_of(network)), multiple=1)


@pytest.mark.parametrize(
    ('bits', 'opset', 'kind', 'stored'),
    [(2, 25, 'UINT2', 2), (3, 21, 'UINT4', 4), (4, 21, 'UINT4', 4), (5, 20, 'UINT8', 8), (8, 20, 'UINT8', 8)],
)
def test_weights_are_stored_as_codes(bits, opset, kind, stored):
    network = tiny_edsr(weight_bits=bits)
    model = to_onnx(network, record_of(network))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [('', opset)]
    tensors = [t for t in model.graph.initializer if TensorProto.DataType.Name(t.data_type).startswith('UINT')]
    assert {TensorProto.DataType.Name(t.data_type) for t in tensors} == {kind}
    layers = [module for module in network.modules() if isinstance(module, QuantizedLayer)]
    expected = [block for layer in layers for block in layer.weight_codes().chunk(len(layer.weight_quantizers()))]
    assert len(tensors) == len(expected) == LAYERS
    for tensor, codes in zip(tensors, expected):
        assert len(tensor.raw_data) == codes.numel() * stored // 8
        data = np.frombuffer(tensor.raw_data, np.uint8)
        assert np.array_equal(unpack_bits(data, stored, codes.numel()).reshape(codes.shape), codes.numpy())


@pytest.mark.parametrize('moved', [0, -7, 40])
@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
def test_paper_codes_that_fit_are_stored_from_zero_on(granularity, moved):
    """Moved by whole steps, as training may do: the zero point moves back, and the weights stay the same."""
    network = tiny_edsr(code_range='paper', transform='none', granularity=granularity)
    layers = [module for module in network.modules() if isinstance(module, QuantizedLayer)]
    for layer in layers:
        for quantizer in layer.weight_quantizers():
            quantizer.zero_offset.copy_(-moved * quantizer.grid()[0])
        assert abs(float(layer.weight_codes().float().mean()) - moved - 7.5) < 3
    model = to_onnx(network, record_of(network))
    codes = [t for t in model.graph.initializer if t.data_type == TensorProto.UINT4]
    assert len(codes) == LAYERS
    assert_same(network, model, multiple=1)


def test_paper_codes_that_do_not_fit_are_stored_as_floats():
    network = tiny_edsr(code_range='paper', transform='padded')
    quantizer = network.body[0].conv1.weight_quantizer
    quantizer.scale_offset.copy_(-0.5 * quantizer.grid()[0])
    model = to_onnx(network, record_of(network))
    assert sum(t.data_type == TensorProto.UINT4 for t in model.graph.initializer) == LAYERS - 1
    assert_same(network, model, multiple=1)


def test_packed_layers_are_exported_by_their_codes():
    network = tiny_edsr()
    before = to_onnx(network, record_of(network)).SerializeToString()
    for layer in network.modules():
        if isinstance(layer, QuantizedLayer):
            layer.fix_codes(layer.weight_codes().to(torch.uint8))
            layer.weight.fill_(float('nan'))
    assert to_onnx(network, record_of(network)).SerializeToString() == before


def test_standard_operators_only_and_no_duplicates():
    network = tiny_edsr()
    model = to_onnx(network, record_of(network))
    assert {node.domain for node in model.graph.node} == {''} and not model.functions
    stored = [(t.data_type, tuple(t.dims), t.raw_data) for t in model.graph.initializer]
    assert len(set(stored)) == len(stored)
    computed = [(n.op_type, *n.input, *(a.SerializeToString() for a in n.attribute)) for n in model.graph.node]
    assert len(set(computed)) == len(computed)


def test_no_product_is_computed_in_low_precision_by_default(tmp_path):
    """Codes next to a product could become MatMulNBits, which rounds activations to int8."""
    network = tiny_quantized()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / 'optimized.onnx'), 3
    onnxruntime.InferenceSession(to_onnx(network, record_of(network)).SerializeToString(), options)
    kinds = {node.op_type for node in onnx.load(tmp_path / 'optimized.onnx').graph.node}
    assert 'MatMul' in kinds and not [kind for kind in kinds if 'NBits' in kind or 'Integer' in kind]


def test_names_shapes_and_metadata():
    network = tiny_edsr()
    model = to_onnx(network, record_of(network))
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {'input': ['batch', 3, 'height', 'width'], 'output': ['batch', 3, 'scaled_height', 'scaled_width']}
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about['scale'] == '2' and '"arch": "CompSRTNet"' in about['record']


def test_half_precision_of_the_rest():
    """After rounding, all other constants are stored as float16 without further loss."""
    network = tiny_edsr()
    full = len(to_onnx(network, record_of(network)).SerializeToString())
    codes = [layer.weight_codes() for layer in network.modules() if isinstance(layer, QuantizedLayer)]
    grids = [q.grid() for layer in network.modules() if isinstance(layer, QuantizedLayer)
             for q in layer.weight_quantizers()]  # fmt: skip
    round_rest_(network)
    layers = [layer for layer in network.modules() if isinstance(layer, QuantizedLayer)]
    assert all(torch.equal(a, layer.weight_codes()) for a, layer in zip(codes, layers))
    assert grids == [q.grid() for layer in layers for q in layer.weight_quantizers()]
    model = to_onnx(network, record_of(network))
    rest = sum(conv.weight.numel() for conv in (network.conv_first, network.conv_last))
    assert full - len(model.SerializeToString()) > 1.5 * rest
    assert_same(network, model, multiple=1)


@pytest.mark.parametrize(
    ('values', 'fits'),
    [
        (torch.arange(64).float() / 8, True),
        (transform_matrix('hadamard', 60, dtype=torch.float32), True),
        (torch.zeros(64), True),
        (torch.rand(64, generator=torch.Generator().manual_seed(0)), False),
        (torch.full((64,), 1e6), True),
        (torch.tensor([1e6, 1.0, 1e-7] * 20), False),
        (torch.full((2,), 0.5), False),
    ],
    ids=['eighths', 'hadamard', 'zeros', 'random', 'one large number', 'large and small', 'short'],
)
def test_constants_are_stored_without_loss(values, fits):
    found = in_float16(values.numpy())
    assert (found is not None) is fits
    if found is not None:
        half, factor = found
        assert half.dtype == np.float16 and np.array_equal(half.astype(np.float32) * factor, values.numpy())


def test_half_precision_of_large_numbers_is_refused():
    network = tiny_swinir().requires_grad_(False)
    network.norm.bias[0] = 1e6
    with pytest.raises(CompSRTError, match=r'`norm\.bias`.*--half'):
        round_rest_(network)


def test_a_network_of_one_size_is_refused():
    network = tiny_swinir(ape=True)
    with pytest.raises(CompSRTError, match='SwinIR'):
        to_onnx(network, record_of(network, ape=True))


def test_uncalibrated_networks_are_refused():
    network = CompSRTSwinIR(**TINY)
    with pytest.raises(CompSRTError, match=r'qkv.* is not calibrated'):
        to_onnx(network, record_of(network))


def test_other_domains_and_invalid_models_are_refused():
    network = tiny_edsr()
    assert EDSR['upscale'] == 2
    model = to_onnx(network, record_of(network))
    model.graph.node[0].op_type = 'Reshap'
    with pytest.raises(CompSRTError, match='not valid'):
        check_standard(model)
    model.graph.node[0].domain = 'com.microsoft'
    model.opset_import.append(helper.make_opsetid('com.microsoft', 1))
    with pytest.raises(CompSRTError, match=r'Reshap, com\.microsoft'):
        check_standard(model)
