"""Construction of quantizers from a configuration."""

from __future__ import annotations

from typing import Any

from torch import nn

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.quant.quantizer import LEARNED, Quantizer


def weight_quantizer(config: QuantConfig, channels: int, name: str) -> Quantizer | nn.Identity:
    """Builds the quantizer of a weight with `channels` output channels; the identity if weights stay float."""
    if config.operands == 'activations':
        return nn.Identity()
    return Quantizer(
        config.weight_bits,
        config.code_range,
        channels if config.granularity == 'channel' else None,
        name,
        zero_on_grid=config.prunes and config.code_range == 'strict',
        symmetric=config.symmetric != 'none',
        **_training(config),
    )


def act_quantizer(config: QuantConfig, name: str) -> Quantizer | nn.Identity:
    """Builds the quantizer of an activation; the identity if activations stay float."""
    if config.operands == 'weights':
        return nn.Identity()
    symmetric = config.symmetric == 'both'
    return Quantizer(config.act_bits, config.code_range, name=name, symmetric=symmetric, **_training(config))


def _training(config: QuantConfig) -> dict[str, Any]:
    """Returns the arguments of `Quantizer` that concern training."""
    chosen = {
        'lower': config.learn_bounds,
        'upper': config.learn_bounds,
        'scale_offset': config.learn_scale_offset,
        'zero_offset': config.learn_zero_offset,
    }
    return {'learned': tuple(n for n in LEARNED if chosen[n]), 'lsq_gradient': config.step_gradient == 'lsq'}
