"""MambaIRv2Light as the base of CompSRTNet: layers, products and scan projections in low bits; files; tiles; codes."""

import copy

import pytest
import torch
from mambairv2_golden import TINY, image, weights

from compsrt_basicsr.archs.compsrt_net_arch import CompSRTNet
from compsrt_basicsr.archs.mambairv2_light_arch import PUBLISHED_PLACEMENT, MambaIRv2Light
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.compression.targets import check_targets
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.execution import choose_execution
from compsrt_basicsr.inference.upscale import UpscaleSettings, upscale
from compsrt_basicsr.integer import products
from compsrt_basicsr.integer.execution import set_execution_
from compsrt_basicsr.onnx.generic import export_generic
from compsrt_basicsr.packing.packed import save_packed
from compsrt_basicsr.quant.bounds import search_bounds
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.code_usage import counting_codes, summarize
from compsrt_basicsr.quant.equalization import equalize_
from compsrt_basicsr.quant.equalizer import equalizers
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.products import QuantProduct
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers

pytestmark = pytest.mark.usefixtures('kernel_home')
BASE = {**TINY, 'type': 'MambaIRv2Light', 'depths': [2], 'num_heads': [2], 'routing': 'sample'}
ALL = {'quantize_convs': True, 'quantize_products': True, 'quantize_scan': True}
AUTHORS = {'layers': {'*.selectiveScan.*': {'operands': 'weights'}}}
TOKENS = {'granularity': 'channel', 'act_granularity': 'token', 'equalize': True}  # those of the strict option files
GRIDS = {**ALL, **TOKENS}
PAPER = {'method': 'compsrt_paper', **PUBLISHED_PLACEMENT}


def full_precision():
    """A network that changes images moderately; with the weights of the golden file, small errors flip its routing."""
    torch.manual_seed(0)
    network = MambaIRv2Light(**{key: value for key, value in BASE.items() if key != 'type'})
    values = weights({name: tuple(value.shape) for name, value in network.named_parameters()})
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.add_(0.2 * torch.tensor(values[name] - name.endswith(('norm.weight', 'scale1', 'scale2'))))
    return network.eval()


def pixels():
    return torch.tensor(image(), dtype=torch.float32)[None]


def quantized(**quant):
    network = CompSRTNet(dict(BASE), quant).eval()
    network.load_state_dict(full_precision().state_dict())
    equalize_(network, pixels())
    calibrate(network, pixels(), CalibrationConfig(candidates=20), progress=False)
    return network.requires_grad_(False)


@torch.no_grad()
def nearness(network):
    expected, result = full_precision()(pixels()), network(pixels())
    return float(10 * torch.log10((expected - expected.mean()).square().sum() / (expected - result).square().sum()))


@pytest.mark.parametrize('quant', [{}, AUTHORS, ALL, GRIDS, PAPER], ids=['linears', 'authors', 'all', 'grids', 'paper'])
def test_eight_bits_are_near_full_precision(quant):
    """More bits are nearer, and the published weights load under their own names."""
    near = [nearness(quantized(weight_bits=bits, act_bits=bits, **quant)) for bits in (8, 4)]
    assert near[0] > 25 and near[0] > near[1] > 0


def test_what_is_quantized():
    network = quantized(**ALL)
    layer = 'layers.0.residual_group.layers.1.'
    names = {name.removeprefix(layer) for name in quantized_layers(network) if name.startswith(layer)}
    linears = {'wqkv', 'win_mhsa.proj', 'convffn1.fc1', 'convffn1.fc2', 'convffn2.fc1', 'convffn2.fc2'}
    linears |= {'assm.out_proj', 'assm.route.0', 'assm.route.2'}
    linears |= {'assm.selectiveScan.x_proj', 'assm.selectiveScan.dt_proj'}
    convolutions = {'assm.in_proj.0', 'assm.CPE.0', 'convffn1.sg.conv', 'convffn2.sg.conv'}
    assert names == linears | convolutions
    products = [name for name, module in network.named_modules() if isinstance(module, QuantProduct)]
    attention = 'layers.0.residual_group.layers.{}.win_mhsa.quant_products.{}'
    scans = {name.removeprefix(f'{layer}assm.') for name in quantizers(network) if name.startswith(f'{layer}assm.')}
    operands = {f'selectiveScan.operand_quantizers.{name}' for name in ('u', 'delta', 'a', 'b', 'c')}
    assert {name for name in scans if 'operand' in name or 'prompt' in name} == operands | {'prompt_quantizer'}
    floating = quantized(**AUTHORS).get_submodule(f'{layer}assm.selectiveScan.x_proj')
    assert isinstance(floating.act_quantizer, torch.nn.Identity)
    assert products == [attention.format(j, i) for j in (0, 1) for i in (0, 1)]
    assert {name.removeprefix(layer) for name in quantized_layers(quantized()) if name.startswith(layer)} == linears


def test_the_published_placement_has_480_quantizers():
    """24 in each of 20 layers: 22 of eleven linears, q, k and v apart, and the weights of two projections."""
    found = quantizers(CompSRTNet({'type': 'MambaIRv2Light'}, dict(PAPER)))
    assert len(found) == 480 and len([name for name in found if name.endswith('.act_quantizer')]) == 220
    assert 'layers.3.residual_group.layers.4.wqkv.v.act_quantizer' in found


def test_the_published_calibration_sees_cropped_values_in_full_precision():
    """Of each activation: as many transformed coefficients as channels, of the network that nothing quantizes."""
    network, plain, config = quantized(**PAPER), full_precision(), CalibrationConfig(candidates=20)
    seen = {}
    for name in (name for name, module in plain.named_modules() if isinstance(module, torch.nn.Linear)):
        plain.get_submodule(name).register_forward_hook(lambda m, x, y, name=name: seen.__setitem__(name, x[0]))
    with torch.no_grad():
        plain(pixels())
    for name, x in seen.items():
        layer = network.get_submodule(name)
        cropped = layer.transform(x)[..., : x.shape[-1]]
        assert layer.transform.width > x.shape[-1] or x.shape[-1] == 4  # route.2 needs no padding
        for quantizer in layer.act_quantizers():
            alone = Quantizer(quantizer.bits, 'paper')
            expected = search_bounds(cropped, alone, config)
            assert torch.allclose(torch.stack(quantizer.bounds()), torch.cat(expected), atol=1e-4), name


def test_beta_of_the_published_formula_does_not_train():
    network = quantized(**PAPER).requires_grad_(True).train()
    network(pixels()).square().mean().backward()
    for name, quantizer in quantizers(network).items():
        assert float(quantizer.zero_offset.grad) == pytest.approx(0, abs=1e-4), name
        assert torch.isfinite(quantizer.scale_offset.grad)
    assert sum(float(q.scale_offset.grad) != 0 for q in quantizers(network).values()) > 40


def test_every_quantizer_trains():
    network = quantized(**ALL).requires_grad_(True).train()
    network(pixels()).square().mean().backward()
    missing = [
        f'{name}.{part}'
        for name, quantizer in quantizers(network).items()
        for part, parameter in quantizer.named_parameters()
        if parameter.grad is None or not torch.isfinite(parameter.grad).all()
    ]
    assert missing == []


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('quant', [ALL, GRIDS, PAPER], ids=['all', 'grids', 'paper'])
def test_files_need_no_option_file(quant, packed, tmp_path):
    network = quantized(**quant, prune_ratio=0.4)
    file = tmp_path / ('net.safetensors' if packed else 'net.pth')
    if packed:
        save_packed(network, file, rest='fp32')
    else:
        torch.save({'params': network.state_dict()}, file)
    loaded = load_network(file)
    assert loaded.kind == 'quantized' and loaded.scale == 2 and loaded.multiple == 4
    assert torch.equal(loaded.network(pixels()), network(pixels()))
    picture = (255 * torch.rand(21, 34, 3)).byte().numpy()
    assert upscale(loaded, picture, UpscaleSettings(tile=16, overlap=4)).shape == (42, 68, 3)


@torch.no_grad()
def test_operands_are_equalized():
    """By mean and root of the deviation, so that less is lost; a checkpoint in full precision resets them."""
    network, seen = quantized(**GRIDS, weight_bits=8, act_bits=8), {}
    scan = network.get_submodule('layers.0.residual_group.layers.0.assm.selectiveScan')
    scan.operand_equalizers['u'].register_forward_pre_hook(lambda module, inputs: seen.update(u=inputs[0]))
    network(pixels())
    rows = seen['u'].flatten(0, -2)
    torch.testing.assert_close(scan.operand_equalizers['u'].input_shift, rows.mean(0), rtol=0.05, atol=0.02)
    scale = rows.std(0).sqrt()
    expected = scale / scale.log().mean().exp()
    torch.testing.assert_close(scan.operand_equalizers['u'].input_scale, expected, rtol=0.1, atol=0)
    network.load_state_dict(full_precision().state_dict())
    assert all(bool((e.input_shift == 0).all() & (e.input_scale == 1).all()) for e in equalizers(network).values())


def test_codes_beyond_their_bits_are_not_packed(tmp_path):
    network = quantized(**PAPER)
    layer = 'layers.0.residual_group.layers.0.wqkv'
    quantizer = network.get_submodule(f'{layer}.k.act_quantizer')
    quantizer.scale_offset.fill_(-0.9 * float(quantizer.upper - quantizer.lower) / 15)
    with pytest.raises(CompSRTError, match=r'1 of 48 quantizers .*wqkv\.k\.act_quantizer'):
        save_packed(network, tmp_path / 'net.safetensors')
    with counting_codes(network) as counts:
        network(pixels())
    assert summarize(counts)['levels_over'] == 1 and summarize(counts)['levels_max'] > 16


def test_no_export_and_why(tmp_path):
    """Before any work, with the reason."""
    torch.save({'params': full_precision().state_dict()}, tmp_path / 'net.pth')
    loaded = load_network(tmp_path / 'net.pth')
    for refused in (
        lambda: check_targets(('packed', 'onnx'), loaded),
        lambda: export_generic(loaded, tmp_path / 'n.onnx'),
    ):
        with pytest.raises(CompSRTError, match='scan'):
            refused()


@pytest.mark.parametrize('grids', [{}, TOKENS], ids=['tensor', 'token'])
def test_layers_on_codes_equal_fake_quantization(grids, monkeypatch):
    """Layer by layer, in both kinds of windows, with the inputs that the layers have in the network."""
    network, calls, seen = quantized(**ALL, **grids), [], {}
    layers = {
        name: module
        for name, module in network.named_modules()
        if name.endswith('win_mhsa') or (name in quantized_layers(network) and name.endswith(('fc1', 'in_proj.0')))
    }
    handles = [
        module.register_forward_hook(lambda _, given, result, name=name: seen.update({name: (given, result)}))
        for name, module in layers.items()
    ]
    network(pixels())
    for handle in handles:
        handle.remove()
    report = set_execution_(network, 'integer').layers
    assert report['layers.0.residual_group.layers.1.win_mhsa.quant_products.1'] == 'kernel'
    assert {how for how in report.values() if how != 'kernel'} == {'fake: convolutions have no integer kernel'}
    attend = products.attention
    monkeypatch.setattr(products, 'attention', lambda *given: calls.append(1) or attend(*given))
    for name, (given, expected) in seen.items():
        result = layers[name](*given)
        difference = (result - expected).abs()
        assert difference.quantile(0.9) < 1e-5 * expected.abs().max()  # a moved code changes a whole row
        assert difference.norm() < 0.05 * expected.norm() and not torch.equal(result, expected)
    assert len(calls) == 2 and len(seen) == 8


@pytest.mark.parametrize(
    'quant', [AUTHORS, ALL, {**AUTHORS, **TOKENS}, GRIDS], ids=['authors', 'all', 'linears file', 'all file']
)
def test_networks_on_codes_are_near_fake_quantization(quant):
    """Nearer than fake quantization is to full precision."""
    network = quantized(weight_bits=8, act_bits=8, **quant)
    twin = copy.deepcopy(network)
    set_execution_(twin, 'integer')
    result, expected = twin(pixels()), network(pixels())  # equal where the last layer quantizes, if no code moved
    assert (result - expected).norm() < (expected - full_precision()(pixels())).norm()


@pytest.mark.parametrize('quant', [AUTHORS, GRIDS], ids=['authors', 'all file'])
def test_auto_runs_on_codes(quant, tmp_path):
    torch.save({'params': quantized(**quant).state_dict()}, tmp_path / 'net.pth')
    assert choose_execution(load_network(tmp_path / 'net.pth'), 'auto') == 'integer'
