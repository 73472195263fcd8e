"""Reduction of the condition numbers of a network's weights before calibration."""

from __future__ import annotations

from statistics import median

import torch
from torch import Tensor, nn

from compsrt_basicsr.quant.functional.condition_number import condition_number, reduce_condition
from compsrt_basicsr.quant.layer_errors import naming_layer
from compsrt_basicsr.quant.layers import QuantizedLayer, quantized_layers
from compsrt_basicsr.quant.observation import observing
from compsrt_basicsr.utils.log import logger
from compsrt_basicsr.utils.text import counted


@torch.no_grad()
def precondition_(network: nn.Module, images: Tensor, weight_of_spread: float, steps: int) -> None:
    """Applies `reduce_condition` to the weights of all quantized linear layers, in place.

    Each block of rows with its own quantizer (q, k and v of a fused layer) counts as one weight. The inputs are those
    of the unmodified network. Convolutions are not changed.

    Args:
        network: a quantized network.
        images: (N, 3, H, W) in [0, 1], from which the second moments of the layer inputs are computed.
        weight_of_spread: lambda of quant/functional/condition_number.py, above 0.
        steps: proximal gradient steps.

    Raises:
        CompSRTError: if a weight or the inputs of a layer are not finite.
    """
    moments = _second_moments(network, images)
    names = {layer: name for name, layer in quantized_layers(network).items()}
    before: list[float] = []
    after: list[float] = []
    for layer, moment in moments.items():
        blocks = layer.weight.chunk(len(layer.weight_quantizers()))
        with naming_layer(names[layer] or type(layer).__name__, 'precondition: 0'):
            changed = [reduce_condition(block, moment, weight_of_spread, steps) for block in blocks]
            before += map(condition_number, blocks)
            after += map(condition_number, changed)
        layer.weight.copy_(torch.cat(changed))
    if before:
        logger.info(
            f'Preconditioned {counted(len(before), "weight")}: median condition number {median(before):.3g} before, '
            f'{median(after):.3g} after.'
        )


def _second_moments(network: nn.Module, images: Tensor) -> dict[QuantizedLayer, Tensor]:
    """Computes the mean of x x^T over the input tokens of each quantized linear layer in full precision, (d, d)."""
    moments: dict[QuantizedLayer, Tensor] = {}

    def look(layer: QuantizedLayer, inputs: tuple[Tensor, ...]) -> None:
        tokens = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
        with torch._C.DisableTorchFunction():  # no product of the network, see quant/products.py
            moments[layer] = tokens.T @ tokens / len(tokens)

    layers = [layer for layer in quantized_layers(network).values() if layer.weight.ndim == 2]
    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        with observing(network):
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return moments
