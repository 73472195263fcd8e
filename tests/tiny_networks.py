"""Small calibrated networks that several test folders share."""

from __future__ import annotations

import torch
from basicsr.archs import build_network
from basicsr.archs.swinir_arch import SwinIR

from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.quant.calibrate import calibrate

TINY = {
    'upscale': 2,
    'img_size': 16,
    'window_size': 8,
    'depths': (2,),
    'embed_dim': 12,
    'num_heads': (2,),
    'mlp_ratio': 2,
    'upsampler': 'pixelshuffledirect',
}
EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2, 'img_range': 1.0}


def pictures(height=16, width=16, seed=0):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


def spread(network, seed=0):
    """Weights as large as trained ones; SwinIR's own start is nearly linear."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if 'quantizer' not in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def tiny_swinir(**changes):
    """A full-precision SwinIR."""
    torch.manual_seed(0)
    return spread(SwinIR(**{**TINY, **changes}))


def ready(network):
    """Spreads the weights of a quantized network, calibrates it, and freezes it."""
    calibrate(spread(network), pictures(), CalibrationConfig(candidates=20), progress=False)
    return network.eval().requires_grad_(False)


def tiny_quantized(quant=None, **changes):
    torch.manual_seed(0)
    return ready(CompSRTSwinIR(**{**TINY, **changes}, quant=quant))


def tiny_edsr(**quant):
    torch.manual_seed(0)
    return ready(build_network({'type': 'CompSRTNet', 'base': EDSR, 'quant': {'quantize_convs': True, **quant}}))
