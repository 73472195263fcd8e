"""Pruning of quantized networks: sets the keep masks of all layers in place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compsrt_basicsr.quant.functional.pruning import keep_channels, keep_n_of_m, keep_unstructured
from compsrt_basicsr.quant.layers import QuantizedLayer, quantized_layers
from compsrt_basicsr.quant.quantizer import Quantizer


def pruned_layers(network: nn.Module) -> dict[str, QuantizedLayer]:
    """Returns the layers that are pruned, by dotted name, in definition order."""
    return {name: layer for name, layer in quantized_layers(network).items() if layer.keep_mask is not None}


def mask_blocks(layer: QuantizedLayer) -> dict[Quantizer, Tensor]:
    """Returns views of a pruned layer's mask, one per weight quantizer; a fused qkv layer has three."""
    assert layer.keep_mask is not None, 'the layer is not pruned'
    quantizers = layer.weight_quantizers()
    return dict(zip(quantizers, layer.keep_mask.chunk(len(quantizers))))


@torch.no_grad()
def prune_(network: nn.Module, ratio: float | None = None) -> None:
    """Sets the masks of all pruned layers from the magnitudes of their transformed weights, in place.

    With `prune_scope: layer`, the unit is the weight of one quantizer: q, k and v are three. With a padded transform,
    all n = 2^k transformed coefficients of a row count; none is zero by construction.

    Args:
        network: a quantized network; without pruning it stays unchanged.
        ratio: p, overrides the configured ratio; ignored for N:M patterns.
    """
    layers = list(pruned_layers(network).values())
    if not layers:
        return
    masks = [mask for layer in layers for mask in mask_blocks(layer).values()]
    weights = [block for layer in layers for block in layer.dense_weight().chunk(len(layer.weight_quantizers()))]
    config = layers[0].config
    ratio = config.prune_ratio if ratio is None else ratio
    if config.n_of_m is not None:
        keeps = [keep_n_of_m(weight, *config.n_of_m) for weight in weights]
    else:
        choose = keep_channels if config.prune_pattern == 'channel' else keep_unstructured
        groups = [weights] if config.prune_scope == 'global' else [[weight] for weight in weights]
        keeps = [keep for group in groups for keep in choose(group, ratio)]
    for mask, keep in zip(masks, keeps):
        mask.copy_(keep)


@torch.no_grad()
def copy_masks_(source: nn.Module, target: nn.Module) -> None:
    """Copies the masks of a network to another one of the same architecture, in place."""
    for mine, theirs in zip(pruned_layers(target).values(), pruned_layers(source).values()):
        assert mine.keep_mask is not None and theirs.keep_mask is not None
        mine.keep_mask.copy_(theirs.keep_mask)
