"""How much each quantized layer costs: quantize one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compsrt_basicsr.archs.swinir_attention import QuantWindowAttention
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.observation import observing
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers
from compsrt_basicsr.utils.progress import SILENT, Progress


@dataclass(frozen=True)
class Cost:
    """What one layer, or the products of one module, costs alone.

    Attributes:
        name: dotted name, which `--keep-float` takes.
        error: mean squared error of the output, for values in [0, 1].
    """

    name: str
    error: float


@torch.no_grad()
def costs(network: nn.Module, images: Tensor, progress: Progress = SILENT) -> list[Cost]:
    """Measures the error that each quantized layer makes alone, the largest first.

    Args:
        network: a calibrated network.
        images: (N, C, H, W) in [0, 1].
        progress: display of the work.
    """
    groups = _groups(network)
    found = []
    with observing(network, lambda quantizer, x: None):
        observers = {quantizer: quantizer.observer for group in groups.values() for quantizer in group}
        reference = network(images)
        for name, group in progress.track(list(groups.items()), 'Sensitivity', 'layer'):
            for quantizer in group:
                quantizer.observer = None
            found.append(Cost(name, float((network(images) - reference).square().mean())))
            for quantizer in group:
                quantizer.observer = observers[quantizer]
    return sorted(found, key=lambda cost: -cost.error)


def _groups(network: nn.Module) -> dict[str, list[Quantizer]]:
    """Returns the quantizers of each layer, and of the products of each module, by the name that leaves them out."""
    attentions = [name for name, module in network.named_modules() if isinstance(module, QuantWindowAttention)]
    layers = list(quantized_layers(network))
    groups: dict[str, list[Quantizer]] = {}
    for name, quantizer in quantizers(network).items():
        groups.setdefault(_owner(name, attentions, layers), []).append(quantizer)
    return groups


def _owner(name: str, attentions: Sequence[str], layers: Sequence[str]) -> str:
    for known in (*attentions, *layers):
        if name.startswith(f'{known}.'):
            return known
    return name.partition('.quant_products.')[0]
