"""The comparison of an ONNX model with its network detects wrong models and accepts correct ones."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from tiny_networks import TINY, tiny_quantized, tiny_swinir

from compsrt_basicsr.archs.rebuild import Geometry
from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.data.bicubic import downscale
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx import check as onnx_check
from compsrt_basicsr.onnx.check import (
    ROUNDED_LEAST,
    SMOOTH_LEAST,
    Comparison,
    benchmark_samples,
    check_agreement,
    check_quality,
    compare,
    image_samples,
    model_without_rounding,
    quality_loss,
    synthetic_samples,
    without_rounding,
)
from compsrt_basicsr.onnx.engines import ONNXRuntimeSession
from compsrt_basicsr.onnx.generic import engine_model
from compsrt_basicsr.quant.record import decode_record

X2 = Geometry(scale=2, multiple=8, channels=3)
SYNTHETIC = synthetic_samples(3)


def write(path, network):
    record = {'arch': 'SwinIR', 'args': TINY, 'quant': None}
    if hasattr(network, 'quant_record'):
        record = decode_record(network.quant_record.json)
    path.write_bytes(
        engine_model(LoadedNetwork(network, 2, 8, 3, '', '', record), exact=True).model.SerializeToString()
    )
    return path


@pytest.mark.parametrize('code_range', ['strict', 'paper'])
def test_a_correct_model_passes(tmp_path, code_range):
    network = tiny_quantized({'code_range': code_range})
    file = write(tmp_path / 'model.onnx', network)
    check_agreement(compare(network, X2, ONNXRuntimeSession(file), SYNTHETIC), ROUNDED_LEAST)
    before = network(SYNTHETIC[5].image)
    with without_rounding(network):
        assert not torch.equal(network(SYNTHETIC[5].image), before)
        found = compare(network, X2, ONNXRuntimeSession(model_without_rounding(onnx.load(file))), SYNTHETIC)
    assert torch.equal(network(SYNTHETIC[5].image), before)
    check_agreement(found, SMOOTH_LEAST)
    assert [(c.height, c.width) for c in found] == [(1, 1), (7, 5), (16, 9), (23, 17), (48, 33), (40, 56), (65, 71)]


@pytest.mark.parametrize('network', [tiny_swinir, tiny_quantized], ids=['full precision', 'quantized'])
def test_a_missing_mask_is_detected(tmp_path, monkeypatch, network):
    network = network()
    missing = {True: lambda sides: torch.zeros(1, 1, 1), False: None}
    monkeypatch.setattr('compsrt_basicsr.onnx.masks._short', lambda module: missing[hasattr(module, 'calculate_mask')])
    file = write(tmp_path / 'model.onnx', network)
    with (
        without_rounding(network),
        pytest.raises(CompSRTError, match=r'`synthetic \d`.* 90 dB'),
    ):
        check_agreement(
            compare(network, X2, ONNXRuntimeSession(model_without_rounding(onnx.load(file))), SYNTHETIC), SMOOTH_LEAST
        )


def test_wrong_rounding_is_detected(tmp_path):
    network = tiny_quantized()
    model = onnx.load(write(tmp_path / 'model.onnx', network))
    for node in model.graph.node:
        node.op_type = {'Round': 'Floor'}.get(node.op_type, node.op_type)
    with pytest.raises(CompSRTError, match=r'`synthetic \d`.* 50 dB'):
        check_agreement(compare(network, X2, ONNXRuntimeSession(model.SerializeToString()), SYNTHETIC), ROUNDED_LEAST)


def test_nan_results_are_refused():
    with pytest.raises(CompSRTError, match='nan dB'):
        check_agreement([Comparison('a', 1, 1, math.nan, math.nan, None)], ROUNDED_LEAST)


def test_out_of_memory_is_one_sentence(tmp_path):
    class Greedy(torch.nn.Module):
        def forward(self, x):
            return torch.empty(2**60)

    session = ONNXRuntimeSession(write(tmp_path / 'model.onnx', tiny_swinir()))
    with pytest.raises(CompSRTError, match='`synthetic 1` needs more memory'):
        compare(Greedy(), X2, session, SYNTHETIC)


def test_another_scale_is_detected(tmp_path):
    network = tiny_swinir()
    session = ONNXRuntimeSession(write(tmp_path / 'model.onnx', network))
    with pytest.raises(CompSRTError, match=r'\(1, 3, 2, 2\).*\(1, 3, 4, 4\)'):
        compare(tiny_swinir(upsampler='nearest+conv', upscale=4), Geometry(4, 8, 3), session, SYNTHETIC)


def test_a_model_beyond_this_onnx_runtime(tmp_path):
    model = onnx.load(write(tmp_path / 'model.onnx', tiny_swinir()))
    model.opset_import[0].version = 99
    with pytest.raises(CompSRTError, match='pip install --upgrade onnxruntime'):
        ONNXRuntimeSession(model.SerializeToString())


@pytest.mark.parametrize(
    ('side', 'rounding', 'passes'),
    [
        (20, (45.0, 43.0), True),
        (20, (45.0, 41.0), False),
        (20, (60.0, 45.0), False),
        (1, (60.0, 45.0), True),  # by luck, torch hardly rounds a single pixel
        (20, (45.0, math.nan), False),
    ],
)
def test_rounding_may_take_the_file_as_far_as_torch(side, rounding, passes):
    found = [
        Comparison('large', 64, 64, 44.0, 1.0, None, (45.0, 45.0)),
        Comparison('a', side, side, 44.0, 1.0, None, rounding),
    ]
    if passes:
        check_agreement(found, ROUNDED_LEAST)
    else:
        with pytest.raises(CompSRTError, match='`a`'):
            check_agreement(found, ROUNDED_LEAST)


@pytest.mark.parametrize(('difference', 'passes'), [(0.009, True), (-0.009, True), (0.011, False), (math.nan, False)])
def test_loss_of_psnr(difference, passes):
    found = [
        Comparison('synthetic', 1, 1, 70.0, 0.1, None),
        Comparison('a', 1, 1, 70.0, 0.1, (30.0, 30.0)),
        Comparison('b', 1, 1, 70.0, 0.1, (36.0, 36.0 + 2 * difference)),
    ]
    if passes:
        check_quality(found)
    else:
        with pytest.raises(CompSRTError, match=r'PSNR-Y.* 0\.01 dB'):
            check_quality(found)


def test_two_infinite_psnr_are_equal():
    found = [
        Comparison('flat', 1, 1, math.inf, 0.0, (math.inf, math.inf)),
        Comparison('b', 1, 1, 70.0, 0.1, (30.0, 30.03)),
    ]
    assert quality_loss(found) == pytest.approx(0.015)
    assert quality_loss(found[:1]) == quality_loss([]) == 0


def test_benchmark_images(tmp_path):
    """Grey and RGB originals are cropped to a multiple of the scale and downscaled; results are compared on Y."""
    rng = np.random.default_rng(0)
    (tmp_path / 'HR').mkdir()
    colour, grey = (rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((33, 40, 3), (32, 30)))
    Image.fromarray(colour).save(tmp_path / 'HR/a.png')
    Image.fromarray(grey).save(tmp_path / 'HR/b.png')
    a, b = benchmark_samples(tmp_path, X2)
    assert a.original.shape == (32, 40, 3) and b.original.shape == (32, 30)
    expected = downscale(colour[:32], 2).astype(np.float32) / 255
    assert np.array_equal(a.image[0].permute(1, 2, 0).numpy(), expected)
    assert b.image.shape == (1, 3, 16, 15) and torch.equal(b.image[:, 0], b.image[:, 2])
    network = tiny_swinir()
    session = ONNXRuntimeSession(write(tmp_path / 'model.onnx', network))
    for found in compare(network, X2, session, (a, b)):
        assert 5 < found.quality[0] < 40 and found.quality[0] == pytest.approx(found.quality[1], abs=0.01)


def test_psnr_y_is_that_of_the_y_channel():
    """In Y of BT.601, green has the weight 128.553 / 255 and blue 24.966 / 255."""
    original = np.full((16, 16, 3), 100, np.uint8)
    for channel, weight in ((1, 128.553), (2, 24.966)):
        levels = original.copy()
        levels[:, :, channel] += 10
        result = levels.transpose(2, 0, 1)[None].astype(np.float32) / 255
        expected = 20 * math.log10(255 / (10 * weight / 255))
        assert onnx_check._psnr_y(result, original, 2) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(('size', 'fits'), [((5, 5), True), ((4, 9), False), ((9, 4), False)])
def test_originals_without_an_inside_are_refused(size, fits):
    """Their PSNR would be NaN, which is no fault of the model."""
    with nullcontext() if fits else pytest.raises(CompSRTError, match=r'`a\.png` of'):
        onnx_check._require_size('a.png', np.zeros((*size, 3), np.uint8), 2)


def test_images_for_other_networks(tmp_path):
    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(tmp_path / 'a.png')
    (sample,) = image_samples(tmp_path, Geometry(1, 7, 1))
    assert sample.image.shape == (1, 1, 9, 12)
    with pytest.raises(CompSRTError, match='scale 1'):
        list(benchmark_samples(tmp_path, Geometry(1, 7, 1)))
    with pytest.raises(CompSRTError, match='4 channels'):
        list(image_samples(tmp_path, Geometry(2, 8, 4)))
