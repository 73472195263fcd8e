"""Any network exported for engines computes what torch computes, at any size, and runs in 8 bits where it says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.archs.compsrt_net_arch import CompSRTNet
from compsrt_basicsr.archs.spandrel_arch import build_spandrel
from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx.engines import ONNXRuntimeSession
from compsrt_basicsr.onnx.generic import export_generic
from compsrt_basicsr.onnx.marking import marking
from compsrt_basicsr.onnx.qdq import integer_zero, may_saturate
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.layers import QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.quantizer import Quantizer
from compsrt_basicsr.quant.record import decode_record

COMPACT = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_conv': 2, 'upscale': 2, 'act_type': 'prelu'}
ENGINE: dict[str, Any] = {
    'weight_bits': 7,
    'act_bits': 8,
    'transform': 'none',
    'symmetric': 'weights',
    'zero_point': 'integer',
    'granularity': 'channel',
    'quantize_convs': True,
    'quantize_head_tail': True,
    'quantize_outputs': True,
}


def loaded(quant: dict[str, Any] | None) -> LoadedNetwork:
    """A small Compact network with random weights."""
    torch.manual_seed(0)
    if quant is None:
        network: Any = build_spandrel('Compact', COMPACT)
        record: dict[str, Any] = {'arch': 'spandrel', 'args': {'arch': 'Compact', 'args': COMPACT}, 'quant': None}
    else:
        network = CompSRTNet({'type': 'spandrel', 'arch': 'Compact', 'args': COMPACT}, quant)
        calibrate(network, torch.rand(2, 3, 32, 32), CalibrationConfig(candidates=20), progress=False)
        record = decode_record(network.quant_record.json)
    network = network.eval().requires_grad_(False)
    return LoadedNetwork(network, 2, 1, 3, 'quantized' if quant else 'full precision', 'small', record)


def run(file: Path, image: Tensor) -> Tensor:
    return torch.from_numpy(ONNXRuntimeSession(file).run(None, {'input': image.numpy()})[0])


def operators(file: Path) -> list[str]:
    return [node.op_type for node in onnx.load(file).graph.node]


def test_full_precision(tmp_path: Path) -> None:
    network = loaded(None)
    made = export_generic(network, tmp_path / 'n.onnx')
    assert (made.kind, made.layers) == ('float', 0)
    image = torch.rand(1, 3, 13, 29)
    torch.testing.assert_close(run(made.file, image), network.network(image), rtol=0, atol=1e-5)
    assert len(made.comparisons) == 7 and made.size == made.file.stat().st_size


def test_int8_file_has_the_grids_of_the_network(tmp_path: Path) -> None:
    network = loaded(ENGINE)
    made = export_generic(network, tmp_path / 'n.onnx')
    assert (made.kind, made.int8_layers, made.layers) == ('int8', 4, 4)
    graph = onnx.load(made.file).graph
    weights = [c for c in graph.initializer if c.data_type == onnx.TensorProto.INT8 and len(c.dims) == 4]
    assert [tuple(c.dims) for c in weights] == [(8, 3, 3, 3), (8, 8, 3, 3), (8, 8, 3, 3), (12, 8, 3, 3)]
    assert operators(made.file).count('QuantizeLinear') == 8  # input and output of each layer
    image = torch.rand(1, 3, 13, 29)
    difference = run(made.file, image) - network.network(image)
    assert difference.square().mean() < 1e-5


def test_without_quantized_outputs_convolutions_stay_in_floating_point(tmp_path: Path) -> None:
    """ONNX Runtime would round the operands and multiply in floating point, which takes longer."""
    made = export_generic(loaded({**ENGINE, 'quantize_outputs': False}), tmp_path / 'n.onnx')
    assert made.kind == 'weight-only' and 'QuantizeLinear' not in operators(made.file)


@pytest.mark.parametrize('bits', [2, 3, 4, 8])
@pytest.mark.parametrize('options', [{}, {'granularity': 'channel'}, {'prune_ratio': 0.4}, {'code_range': 'paper'}])
def test_weight_only_file_stores_codes(bits: int, options: dict[str, Any], tmp_path: Path) -> None:
    """The transform is undone when the file is loaded, and nothing rounds activations."""
    quant = {'weight_bits': bits, 'act_bits': 8, 'quantize_convs': True, 'quantize_head_tail': True, **options}
    made = export_generic(loaded(quant), tmp_path / 'n.onnx')
    assert made.kind == 'weight-only' and min(c.psnr for c in made.comparisons) > 90
    stored = {c.data_type for c in onnx.load(made.file).graph.initializer if len(c.dims) == 4 and c.dims[0] > 1}
    types = {2: onnx.TensorProto.UINT2, 3: onnx.TensorProto.UINT4, 4: onnx.TensorProto.UINT4, 8: onnx.TensorProto.UINT8}
    assert types[bits] in stored


def test_joined_parts_of_a_linear_are_one_tensor() -> None:
    """As in the network, also where the file multiplies with the weights alone."""
    linear, x = nn.Linear(6, 8), torch.rand(5, 6)
    network = nn.Sequential(QuantSplitLinear(linear, QuantConfig(weight_bits=8, act_bits=8), ('q', 'k'), joined=True))
    calibrate(network, x, CalibrationConfig(candidates=20), progress=False)
    for plain in ([], ['0']):
        with torch.no_grad(), marking(network, ['0.q.act_quantizer', '0.k.act_quantizer'], plain):
            result = network(x if plain else network[0].transform(x))
        torch.testing.assert_close(result, linear(x), rtol=0, atol=0.05)


def test_network_is_as_before(tmp_path: Path) -> None:
    network = loaded(ENGINE)
    image = torch.rand(1, 3, 13, 29)
    before = network.network(image)
    export_generic(network, tmp_path / 'n.onnx')
    assert torch.equal(network.network(image), before) and not network.network.training


def test_file_that_differs_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = loaded(None)
    file = tmp_path / 'n.onnx'
    export_generic(network, file)
    before = file.read_bytes()
    monkeypatch.setattr('compsrt_basicsr.onnx.generic.SMOOTH_LEAST', 1000.0)
    with pytest.raises(CompSRTError, match='dB'):
        export_generic(network, file)
    assert file.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_network_without_a_graph_is_refused(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.from_numpy(x.numpy().repeat(2, 2).repeat(2, 3)) if min(x.shape) > 0 else x

    network = LoadedNetwork(Odd(), 2, 1, 3, 'full precision', 'odd', {'arch': 'Odd', 'args': {}, 'quant': None})
    with pytest.raises(CompSRTError):
        export_generic(network, tmp_path / 'n.onnx')
    assert not list(tmp_path.iterdir())


def test_openvino(tmp_path: Path) -> None:
    """It needs no quantized outputs to multiply in 8 bits."""
    pytest.importorskip('openvino')
    made = export_generic(loaded({**ENGINE, 'quantize_outputs': False}), tmp_path / 'n.xml', 'openvino')
    assert (made.kind, made.int8_layers) == ('int8', 4)
    assert made.size == sum((tmp_path / name).stat().st_size for name in ('n.xml', 'n.bin'))


class Windowed(nn.Module):
    """Pads images that are no whole windows, twice, and works on tokens, as window attention in many networks does."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            height, width = x.shape[-2:]
            below, right = -height % 16, -width % 16
            padded = F.pad(x, (0, right, 0, below), self.mode) if below or right else x
            rows, columns = padded.shape[-2:]
            tokens = padded.flatten(2).transpose(1, 2)
            windows = tokens.view(-1, rows // 16, 16, columns // 16, 16, 3)
            tokens = tokens + (windows - windows.mean((2, 4), keepdim=True)).view(-1, rows * columns, 3)
            x = tokens.transpose(1, 2).view(-1, 3, rows, columns)[:, :, :height, :width]
        return self.conv(x)


def windowed(mode: str) -> LoadedNetwork:
    torch.manual_seed(0)
    network = Windowed(mode).eval().requires_grad_(False)
    record = {'arch': 'Windowed', 'args': {}, 'quant': None}
    return LoadedNetwork(network, 1, 1, 3, 'full precision', 'windowed', record)


def test_padding_of_some_images_only_is_in_the_file(tmp_path: Path) -> None:
    """A trace keeps one branch: that with the padding, which may have no pixels."""
    made = export_generic(windowed('reflect'), tmp_path / 'n.onnx')
    assert {(c.height, c.width) for c in made.comparisons} >= {(48, 33), (40, 56)}


@pytest.mark.parametrize('mode', ['reflect', 'replicate', 'circular'])
def test_openvino_pads_images_of_any_size(mode: str, tmp_path: Path) -> None:
    """Its own Pad operators lose widths that are computed from the image."""
    pytest.importorskip('openvino')
    made = export_generic(windowed(mode), tmp_path / 'n.xml', 'openvino')
    assert len(made.comparisons) >= 5


class Own(torch.autograd.Function):
    """A function with a backward of its own, as some networks have."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, network: nn.Module) -> Tensor:
        ctx.save_for_backward(x)
        return network(x)


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return Own.apply(x, self.inner)


def test_functions_of_the_network_itself(tmp_path: Path) -> None:
    before = torch.autograd.Function.apply
    network = loaded(ENGINE)
    made = export_generic(replace(network, network=Wrapped(network.network)), tmp_path / 'n.onnx')
    assert (made.kind, made.int8_layers) == ('int8', 4)
    assert torch.autograd.Function.apply == before


def test_several_images_at_once(tmp_path: Path) -> None:
    network = loaded(None)
    images = torch.rand(3, 3, 13, 29)
    result = run(export_generic(network, tmp_path / 'n.onnx').file, images)
    torch.testing.assert_close(result, network.network(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize(('bits', 'expected'), [(7, False), (8, True)])
def test_two_products_may_exceed_int16(bits: int, expected: bool) -> None:
    config = QuantConfig.from_opt({**ENGINE, 'weight_bits': bits})
    linear = nn.Linear(2, 1)
    linear.weight.data.fill_(1.0)
    layer = QuantLinear(linear, config)
    for quantizer in layer.weight_quantizers():
        quantizer.set_bounds(torch.tensor([-1.0]), torch.tensor([1.0]))
    assert may_saturate(layer) is expected


def test_integer_zero_points() -> None:
    quantizer = Quantizer(8, zero_on_grid=True)
    quantizer.set_bounds(torch.tensor(-0.3), torch.tensor(1.1))
    zero = integer_zero(quantizer)
    assert zero is not None and 0 < float(zero) < 255
    free = Quantizer(8)
    free.set_bounds(torch.tensor(-0.3), torch.tensor(1.1))
    assert integer_zero(free) is None
