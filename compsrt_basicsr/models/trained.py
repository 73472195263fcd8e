"""What of a network trains, and at which rate."""

from __future__ import annotations

from typing import Any

from torch import nn

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.quantizer import quantizers

TRAINABLE = ('none', 'quantizers', 'all')


def freeze_(network: nn.Module, trainable: str) -> None:
    """Lets train what `train.trainable` names: nothing, the learned parameters of quantizers, or the weights too."""
    network.requires_grad_(trainable == 'all')
    for quantizer in quantizers(network).values():
        for name, parameter in quantizer.named_parameters():
            parameter.requires_grad_(trainable != 'none' and name in quantizer.learned)


def parameter_groups(network: nn.Module, weight_lr: float | None) -> list[dict[str, Any]]:
    """Everything that trains, for an optimizer: the quantizers' parameters, and the weights at a rate of their own.

    Args:
        network: as `freeze_` left it.
        weight_lr: rate of what is no quantizer's; None: one group, one rate.

    Raises:
        CompSRTError: nothing trains, or `weight_lr` is given and no weight does.
    """
    of_quantizers = {id(p) for quantizer in quantizers(network).values() for p in quantizer.parameters()}
    trained = [p for p in network.parameters() if p.requires_grad]
    if not trained:
        raise CompSRTError(
            'Nothing trains: let `quant.bounds`, `quant.scale_offset` or `quant.zero_offset` train, set '
            '`train.trainable: all`, or `train.trainable: none` for calibration alone.'
        )
    if weight_lr is None:
        return [{'params': trained}]
    weights = [p for p in trained if id(p) not in of_quantizers]
    if not weights:
        raise CompSRTError(
            '`train.weight_lr` is the rate of trained weights: set `train.trainable: all` or leave it out.'
        )
    groups = [{'params': [p for p in trained if id(p) in of_quantizers]}, {'params': weights, 'lr': weight_lr}]
    return [group for group in groups if group['params']]
