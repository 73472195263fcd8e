"""What of a network trains, and at which rate."""

from __future__ import annotations

from typing import Any

from torch import nn

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.quantizer import quantizers

TRAINABLE = ('none', 'quantizers', 'all')


def freeze_(network: nn.Module, trainable: str) -> None:
    """Lets train what `train.trainable` names: nothing, the learned parameters of quantizers, or the weights too."""
    network.requires_grad_(trainable == 'all')
    for quantizer in quantizers(network).values():
        for name, parameter in quantizer.named_parameters():
            parameter.requires_grad_(trainable != 'none' and name in quantizer.learned)


def parameter_groups(
    network: nn.Module, weight_lr: float | None = None, float_lr: float | None = None
) -> list[dict[str, Any]]:
    """Everything that trains, for an optimizer: quantizers, quantized layers, and the rest, at rates of their own.

    Args:
        network: as `freeze_` left it.
        weight_lr: rate of weights and biases of quantized layers; None: the optimizer's.
        float_lr: rate of what stays in full precision; None: `weight_lr`.

    Raises:
        CompSRTError: nothing trains, or a rate is given and none of its parameters trains.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    if not trained:
        raise CompSRTError(
            'Nothing trains: let `quant.bounds`, `quant.scale_offset` or `quant.zero_offset` train, set '
            '`train.trainable: all`, or `train.trainable: none` for calibration alone.'
        )
    if weight_lr is None and float_lr is None:
        return [{'params': trained}]
    of_quantizers = {id(p) for quantizer in quantizers(network).values() for p in quantizer.parameters()}
    of_layers = {id(p) for layer in quantized_layers(network).values() for p in (layer.weight, layer.bias)}
    rest = [p for p in trained if id(p) not in of_quantizers]
    if not rest:
        raise CompSRTError(
            '`train.weight_lr` and `train.float_lr` are rates of trained weights: set `train.trainable: all` or leave '
            'them out.'
        )
    groups = (
        ([p for p in trained if id(p) in of_quantizers], None),
        ([p for p in rest if id(p) in of_layers], weight_lr),
        ([p for p in rest if id(p) not in of_layers], weight_lr if float_lr is None else float_lr),
    )
    return [{'params': group, **({} if rate is None else {'lr': rate})} for group, rate in groups if group]
