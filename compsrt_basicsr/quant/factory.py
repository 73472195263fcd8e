"""Construction of quantizers from a configuration."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.quant.published_search import first_coefficients, with_zero_rows
from compsrt_basicsr.quant.quantizer import LEARNED, Quantizer
from compsrt_basicsr.quant.transform import Transform


def weight_quantizer(
    config: QuantConfig, channels: int, name: str, transform: Transform | None = None
) -> Quantizer | nn.Identity:
    """Builds the quantizer of a weight with `channels` output channels; the identity if weights stay float.

    Args:
        config: the quantization of the network.
        channels: O.
        name: dotted name in the network.
        transform: the transform of the weight, or None.
    """
    if config.operands == 'activations':
        return nn.Identity()
    per_tensor = config.granularity == 'tensor'
    return Quantizer(
        config.weight_bits,
        config.code_range,
        None if per_tensor else channels,
        name,
        zero_on_grid=config.zero_point == 'integer' or (config.prunes and config.code_range == 'strict'),
        symmetric=config.symmetric != 'none',
        search_view=with_zero_rows if per_tensor and _is_published(config, transform) else None,
        **_training(config),
    )


def act_quantizer(
    config: QuantConfig, name: str, transform: Transform | None = None, axis: int = -1, vectors: bool = False
) -> Quantizer | nn.Identity:
    """Builds the quantizer of an activation; the identity if activations stay float.

    Args:
        config: the quantization of the network.
        name: dotted name in the network.
        transform: the transform of the activation, or None.
        axis: the dimension that it transforms.
        vectors: whether each vector along this dimension is multiplied on its own, so that it can have its own grid.
    """
    if config.operands == 'weights':
        return nn.Identity()
    return Quantizer(
        config.act_bits,
        config.code_range,
        name=name,
        zero_on_grid=config.zero_point == 'integer',
        symmetric=config.symmetric == 'both',
        search_view=_crop(transform, axis) if transform is not None and _is_published(config, transform) else None,
        vector_axis=axis if vectors and config.act_granularity == 'token' else None,
        **_training(config),
    )


def out_quantizer(config: QuantConfig, name: str) -> Quantizer | nn.Identity:
    """Builds the quantizer of an output; the identity unless outputs are quantized."""
    return act_quantizer(config, name) if config.quantize_outputs else nn.Identity()


def _is_published(config: QuantConfig, transform: Transform | None) -> bool:
    return config.code_range == 'paper' and transform is not None and transform.kind == 'padded'


def _crop(transform: Transform, axis: int) -> partial[Tensor]:
    return partial(first_coefficients, count=transform.order, axis=axis)


def _training(config: QuantConfig) -> dict[str, Any]:
    """Returns the arguments of `Quantizer` that concern training."""
    chosen = {
        'lower': config.learn_bounds,
        'upper': config.learn_bounds,
        'scale_offset': config.learn_scale_offset,
        'zero_offset': config.learn_zero_offset,
    }
    return {'learned': tuple(n for n in LEARNED if chosen[n]), 'lsq_gradient': config.step_gradient == 'lsq'}
