"""Files of equalized networks compute what the networks do, whatever the kind of their layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.onnx.engines import ONNXRuntimeSession
from compsrt_basicsr.onnx.generic import export_generic
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.convert import quantize_


class Tokens(nn.Module):
    """A linear layer on the channels of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


BODIES = {
    'linear': Tokens,
    'conv': lambda: nn.Conv2d(8, 8, 3, padding=1),
    'mirrored': lambda: nn.Conv2d(8, 8, 3, padding=1, padding_mode='reflect'),
    'same, even kernel': lambda: nn.Conv2d(8, 8, 2, padding='same'),
    'depthwise': lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8),
    'in two groups': lambda: nn.Conv2d(8, 8, 3, padding=1, groups=2),
    'transposed': lambda: nn.ConvTranspose2d(8, 8, 3, padding=1),
}


@pytest.mark.parametrize('exact', [False, True])
@pytest.mark.parametrize('kind', BODIES)
def test_shift_and_scale_are_undone(kind: str, exact: bool, tmp_path: Path) -> None:
    """With 8 bits, the file and the network are near each other only if both are the same network."""
    torch.manual_seed(0)
    network: Any = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), BODIES[kind](), nn.Conv2d(8, 3, 3, padding=1))
    options = {
        'equalize': True,
        'act_granularity': 'token',
        'transform': 'random',
        'quantize_convs': True,
        'quantize_head_tail': True,
    }
    quantize_(network, QuantConfig.from_opt({**options, 'quantize_head_tail': True, 'weight_bits': 8, 'act_bits': 8}))
    calibrate(network, torch.rand(2, 3, 16, 16) + 0.5, CalibrationConfig(candidates=20), progress=False)
    network.eval().requires_grad_(False)
    record = {'arch': 'Sequential', 'args': {}, 'quant': None}
    loaded = LoadedNetwork(network, 1, 1, 3, 'quantized', kind, record)
    made = export_generic(loaded, tmp_path / 'n.onnx', exact=exact)
    assert made.kind == ('exact' if exact else 'weight-only')
    image = torch.rand(1, 3, 9, 13) + 0.5
    result = torch.from_numpy(ONNXRuntimeSession(made.file).run(None, {'input': image.numpy()})[0])
    assert (result - network(image)).square().mean() < 5e-3 * network(image).var()
