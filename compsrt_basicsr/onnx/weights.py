"""Which weights are stored as codes, and as which."""

from __future__ import annotations

import torch
from torch import Tensor

from compsrt_basicsr.packing.grids import needed_levels
from compsrt_basicsr.quant.layers import QuantizedLayer
from compsrt_basicsr.quant.quantizer import Quantizer


def reasons_for_floats(layer: QuantizedLayer) -> list[str]:
    """Returns for each quantized block why its weight cannot be stored as codes of b bits; empty where it can."""
    if layer.config.operands == 'activations':
        return []
    quantizers = layer.weight_quantizers()
    if layer.config.code_range == 'strict':
        return [''] * len(quantizers)
    if layer.keep_mask is not None:
        return ['pruned in paper range, where no code stands for 0'] * len(quantizers)
    blocks = layer.weight_codes().chunk(len(quantizers))
    return ['more than 2^b levels' if needed_levels(q, x) > q.levels else '' for q, x in zip(quantizers, blocks)]


def from_zero_on(quantizer: Quantizer, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns codes 0 to 2^b - 1, steps and zero points of a weight; codes of the paper range may be moved."""
    scale, zero = quantizer.grid()
    smallest, largest = codes.reshape(max(scale.numel(), 1), -1).aminmax(dim=1)
    moved = torch.where((smallest >= 0) & (largest < quantizer.levels), 0, smallest)
    rows = codes.reshape(len(moved), -1) - moved[:, None]
    return rows.view_as(codes), scale, zero + moved.view(scale.shape) * scale
