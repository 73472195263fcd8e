"""Low-rank corrections taken up by the weights, which leaves an ordinary network."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import nn

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.quant.correction import corrections
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.record import QuantRecord, decode_record

N = TypeVar('N', bound=nn.Module)


@torch.no_grad()
def fold_corrections_(network: nn.Module) -> None:
    """Adds the corrections to the weights and sets them to 0, in place; they can train further."""
    for layer in quantized_layers(network).values():
        if layer.correction is not None:
            layer.weight.copy_(layer.corrected_weight())
            layer.correction.reset_()


def merge_corrections_(network: nn.Module) -> None:
    """Adds the corrections to the weights and removes them, in place: what the network computes stays the same.

    Its record then says that it has none. A network without corrections is left as it is.

    Args:
        network: a quantized network.
    """
    if not corrections(network):
        return
    fold_corrections_(network)
    for layer in quantized_layers(network).values():
        layer.correction, layer.config = None, _without(layer.config)
    owner: Any = network
    if isinstance(record := getattr(owner, 'quant_record', None), QuantRecord):
        stored, config = decode_record(record.json), _without(record.config)
        owner.quant_record = QuantRecord(config, stored['arch'], stored['args']).to(record.json.device)
        if hasattr(owner, 'quant_config'):
            owner.quant_config = config


def _without(config: QuantConfig) -> QuantConfig:
    """Returns a configuration without corrections."""
    layers = {pattern: options.replace(corrections=None) for pattern, options in config.layers.items()}
    return config.replace(corrections=0, layers=layers)


def merged(network: N) -> N:
    """Returns a network whose weights have taken up its corrections: a copy, or the network itself if it has none."""
    if not corrections(network):
        return network
    copy = deepcopy(network)
    merge_corrections_(copy)
    return copy
