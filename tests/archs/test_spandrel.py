"""Networks of spandrel: recognised, rebuilt, quantized, packed and loaded again without an option file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from compsrt_basicsr.archs.compsrt_net_arch import CompSRTNet
from compsrt_basicsr.archs.spandrel_arch import SpandrelNetwork, build_spandrel, is_spandrel, load_spandrel
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.upscale import upscale
from compsrt_basicsr.packing.packed import save_packed
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.products import QuantProduct

SMALL: dict[str, dict[str, Any]] = {
    'DCTLSA': {'in_nc': 3, 'nf': 10, 'num_modules': 6, 'out_nc': 3, 'upscale': 2, 'num_head': 5},
    'Compact': {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_conv': 2, 'upscale': 2, 'act_type': 'prelu'},
    'SPAN': {'num_in_ch': 3, 'num_out_ch': 3, 'feature_channels': 8, 'upscale': 2},
}
QUANT = {
    'weight_bits': 8,
    'act_bits': 8,
    'quantize_convs': True,
    'quantize_products': True,
    'fold_norms': True,
    'layers': {'model.fea_conv': {'transform': 'none'}},
}


def small(arch: str) -> SpandrelNetwork:
    torch.manual_seed(0)
    return build_spandrel(arch, SMALL[arch]).eval()


def file_of(network: SpandrelNetwork, folder: Path) -> Path:
    """Saves the weights as their authors do: those of the inner network, under `params`."""
    torch.save({'params': network.model.state_dict()}, folder / 'their.pth')
    return folder / 'their.pth'


def run(network: torch.nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return network(image)


@pytest.mark.parametrize('arch', SMALL)
def test_weights_name_their_architecture(arch: str, tmp_path: Path) -> None:
    network = small(arch)
    assert is_spandrel(network.model.state_dict())
    loaded = load_network(file_of(network, tmp_path))
    assert (loaded.scale, loaded.channels, loaded.kind) == (2, 3, 'full precision')
    assert loaded.record['arch'] == 'spandrel' and loaded.record['args']['arch'] == arch
    image = torch.rand(1, 3, 20, 24)
    assert torch.equal(run(loaded.network, image), run(network, image))


@pytest.mark.parametrize('arch', SMALL)
def test_a_packed_file_needs_no_option_file(arch: str, tmp_path: Path) -> None:
    checkpoint = file_of(small(arch), tmp_path)
    network = CompSRTNet({'type': 'spandrel', 'checkpoint': str(checkpoint)}, QUANT).eval()
    image = torch.rand(1, 3, 24, 20)
    calibrate(network, image, CalibrationConfig(method='minmax'), progress=False)
    save_packed(network, tmp_path / 'packed.safetensors', rest='fp32')
    checkpoint.unlink()
    loaded = load_network(tmp_path / 'packed.safetensors')
    assert loaded.kind == 'quantized' and loaded.scale == 2
    assert torch.equal(run(loaded.network, image), run(network, image))
    assert quantized_layers(loaded.network).keys() == quantized_layers(network).keys()
    products = [module for module in loaded.network.modules() if isinstance(module, QuantProduct)]
    assert len(products) == (48 if arch == 'DCTLSA' else 0)
    pixels = (255 * torch.rand(17, 23, 3)).byte().numpy()
    assert upscale(loaded, pixels).shape == (34, 46, 3)


def test_a_quantized_checkpoint_with_position_indices_loads(tmp_path: Path) -> None:
    """They follow from the window, so checkpoints need not have them."""
    args = {'img_size': 16, 'embed_dim': 12, 'depths': [2], 'num_heads': [2], 'window_size': 8, 'upscale': 2}
    base = {'type': 'spandrel', 'arch': 'SwinIR', 'args': {**args, 'upsampler': 'pixelshuffle'}}
    network = CompSRTNet(base, {'quantize_products': True}).eval()
    image = torch.rand(1, 3, 16, 16)
    calibrate(network, image, CalibrationConfig(method='minmax'), progress=False)
    torch.save({'params': network.state_dict()}, tmp_path / 'quantized.pth')
    loaded = load_network(tmp_path / 'quantized.pth')
    assert torch.equal(run(loaded.network, image), run(network, image))


def test_images_smaller_than_the_network_takes_are_padded() -> None:
    network = small('DCTLSA')
    assert network.minimum == 16
    assert run(network, torch.rand(2, 3, 5, 40)).shape == (2, 3, 10, 80)


@pytest.mark.parametrize(
    'state',
    [
        {'fc.weight': torch.zeros(10, 4), 'fc.bias': torch.zeros(10)},
        {'model.diffusion_model.input_blocks.0.0.weight': torch.zeros(4, 4, 3, 3)},
        {},
    ],
    ids=['classifier', 'diffusion', 'empty'],
)
def test_other_weights_are_refused(state: dict[str, Tensor]) -> None:
    assert not is_spandrel(state)
    with pytest.raises(CompSRTError, match='No architecture'):
        load_spandrel(state)


def test_incomplete_weights_are_refused() -> None:
    state = small('Compact').model.state_dict()
    del state['body.2.weight']
    with pytest.raises(CompSRTError, match='do not fit'):
        load_spandrel(state)


@pytest.mark.parametrize(
    ('arch', 'args', 'named'),
    [('DCTLSE', {}, 'DCTLSA'), ('Compact', {'num_feats': 8}, 'Compact'), ('Compact', {'num_feat': 'x'}, 'Compact')],
)
def test_wrong_records_are_refused(arch: str, args: dict[str, Any], named: str) -> None:
    with pytest.raises(CompSRTError, match=named):
        build_spandrel(arch, args)
