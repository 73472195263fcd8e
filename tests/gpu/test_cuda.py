"""GPU: device placement, reduced precision, and no synchronization with the device."""

import pytest
import torch

from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.quantizer import quantizers

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device'),
]


@pytest.fixture
def network():
    torch.manual_seed(0)
    net = CompSRTSwinIR(embed_dim=12, depths=[2], num_heads=[2], img_size=16)
    calibrate(net, torch.rand(2, 3, 16, 16), CalibrationConfig(), progress=False)
    return net.eval()


def test_gpu_equals_cpu(network):
    """Rounding at ties may differ between devices; at 4 bits this moves single values by less than a grey level."""
    image = torch.rand(1, 3, 24, 16)
    with torch.no_grad():
        expected = network(image)
        result = network.cuda()(image.cuda()).cpu()
    assert (result - expected).abs().mean() < 1 / 255


def test_step_never_waits_for_the_device(network):
    network.cuda().train()
    image = torch.rand(2, 3, 16, 16, device='cuda')
    network(image).mean().backward()  # warm-up: fills the caches
    torch.cuda.set_sync_debug_mode('error')
    try:
        network(image).mean().backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert all(q.upper.grad is not None for q in quantizers(network).values())


def test_bf16_autocast_is_finite(network):
    network.cuda()
    with torch.no_grad(), torch.autocast('cuda', torch.bfloat16):
        assert torch.isfinite(network(torch.rand(1, 3, 16, 16, device='cuda'))).all()
