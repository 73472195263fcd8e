"""Freezing, and the optimizer's parameter groups."""

from __future__ import annotations

from typing import Any

from torch import nn

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.correction import corrections
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.quantizer import quantizers


def freeze_(network: nn.Module, trainable: str) -> None:
    """Sets which parameters of a network require a gradient, in place.

    Args:
        network: a quantized network.
        trainable: 'none', 'quantizers' (their learned parameters, and corrections), or 'all' (the weights too).
    """
    network.requires_grad_(trainable == 'all')
    for quantizer in quantizers(network).values():
        for name, parameter in quantizer.named_parameters():
            parameter.requires_grad_(trainable != 'none' and name in quantizer.learned)
    for correction in corrections(network).values():
        correction.requires_grad_(trainable != 'none')


def parameter_groups(
    network: nn.Module, weight_lr: float | None = None, unquantized_lr: float | None = None
) -> list[dict[str, Any]]:
    """Groups all that trains by learning rate: quantizers with corrections, quantized layers, and all other layers.

    Args:
        network: as `freeze_` left it.
        weight_lr: rate of weights and biases of quantized layers; None: the optimizer's.
        unquantized_lr: rate of the layers in full precision; None: `weight_lr`.

    Returns:
        Groups for an optimizer of `torch.optim`, none of them empty.

    Raises:
        CompSRTError: if nothing trains, or a rate is given and none of its parameters trains.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    if not trained:
        raise CompSRTError(
            'Nothing trains: set `quant.learn_bounds`, `quant.learn_scale_offset`, `quant.learn_zero_offset` or '
            '`train.trainable: all`; or set `train.trainable: none` to calibrate only.'
        )
    if weight_lr is None and unquantized_lr is None:
        return [{'params': trained}]
    learned = (*quantizers(network).values(), *corrections(network).values())
    of_quantizers = {id(p) for module in learned for p in module.parameters()}
    of_layers = {id(p) for layer in quantized_layers(network).values() for p in (layer.weight, layer.bias)}
    rest = [p for p in trained if id(p) not in of_quantizers]
    if not rest:
        raise CompSRTError(
            '`train.weight_lr` and `train.unquantized_lr` are rates of weights, which are frozen: set '
            '`train.trainable: all` or remove them.'
        )
    groups = (
        ([p for p in trained if id(p) in of_quantizers], None),
        ([p for p in rest if id(p) in of_layers], weight_lr),
        ([p for p in rest if id(p) not in of_layers], weight_lr if unquantized_lr is None else unquantized_lr),
    )
    return [{'params': group, **({} if rate is None else {'lr': rate})} for group, rate in groups if group]
