"""Lower condition numbers for the weights of a network, before it is calibrated."""

from __future__ import annotations

from statistics import median

import torch
from torch import Tensor, nn

from compsrt_basicsr.quant.functional.condition_number import condition_number, reduce_condition
from compsrt_basicsr.quant.layers import QuantizedLayer, quantized_layers
from compsrt_basicsr.quant.observation import observing
from compsrt_basicsr.utils.log import logger


@torch.no_grad()
def precondition_(network: nn.Module, pictures: Tensor, weight_of_spread: float, steps: int) -> None:
    """Replaces the weights of all quantized linears by those of `reduce_condition`, in place.

    Each block of rows with a quantizer of its own (q, k, v of a fused layer) is one weight. Their inputs are those of
    the network as it was; convolutions stay as they are.

    Args:
        network: a quantized network.
        pictures: (N, 3, H, W) in [0, 1], which give the second moments of the inputs.
        weight_of_spread: lambda of `ops.condition`, above 0.
        steps: proximal gradient steps.
    """
    moments = _second_moments(network, pictures)
    before, after = [], []
    for layer, moment in moments.items():
        blocks = layer.weight.chunk(len(layer.weight_quantizers()))
        changed = [reduce_condition(block, moment, weight_of_spread, steps) for block in blocks]
        before += map(condition_number, blocks)
        after += map(condition_number, changed)
        layer.weight.copy_(torch.cat(changed))
    if before:
        logger.info(
            f'Preconditioned {len(before)} weights: median condition number {median(before):.3g}, '
            f'now {median(after):.3g}.'
        )


def _second_moments(network: nn.Module, pictures: Tensor) -> dict[QuantizedLayer, Tensor]:
    """Mean of x x^T over the tokens that each quantized linear sees, (d, d) float64, in full precision."""
    moments: dict[QuantizedLayer, Tensor] = {}

    def look(layer: QuantizedLayer, inputs: tuple[Tensor, ...]) -> None:
        tokens = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
        moments[layer] = tokens.T @ tokens / len(tokens)

    layers = [layer for layer in quantized_layers(network).values() if layer.weight.ndim == 2]
    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        with observing(network, lambda quantizer, x: None):
            network(pictures)
    finally:
        for handle in handles:
            handle.remove()
    return moments
