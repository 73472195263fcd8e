"""Calibration in the order of execution, each linear refitted to the full-precision network.

One full-precision pass keeps what each quantized linear should give; a second pass goes through the network once more
and sets each quantizer, and fits each linear, when its input arrives: from layers that are quantized already. The
target of a linear that adds to a residual stream takes the stream's error back, so that errors do not add up from block
to block.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compsrt_basicsr.ops.reconstruct import least_squares, round_with_feedback
from compsrt_basicsr.quant.layers import QuantizedLayer, QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.observation import observing
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers
from compsrt_basicsr.quant.streams import Stream, streams_of

ROWS = 16384  # tokens that a fit sees; more changed nothing

Linear = QuantLinear | QuantSplitLinear
Targets = dict[Linear, Tensor]


@torch.no_grad()
def full_precision_targets(network: nn.Module, pictures: Tensor) -> Targets:
    """What each quantized linear gives in full precision, plus the stream that it adds to.

    Args:
        network: a quantized network whose weights are still those of full precision.
        pictures: (N, 3, H, W) in [0, 1].

    Returns:
        (R, O) float32 for each linear, R the tokens or `ROWS` of them: 660 MB for SwinIR-light.
    """
    targets: Targets = {}
    streams = _Streams(network)

    def keep(layer: Linear, _: object, output: Tensor | list[Tensor]) -> None:
        if layer not in targets:  # of a layer that runs several times, the first
            whole = output if isinstance(output, Tensor) else torch.cat(output, -1)
            targets[layer] = _some(whole) + streams.take(layer)

    with ExitStack() as hooks, observing(network, lambda quantizer, x: None):
        for handle in (*streams.watch(), *(layer.register_forward_hook(keep) for layer in _linears(network))):
            hooks.callback(handle.remove)
        network(pictures)
    return targets


@torch.no_grad()
def reconstruct_(
    network: nn.Module, pictures: Tensor, targets: Targets, search: Callable[[Quantizer, Tensor], None]
) -> None:
    """Sets all quantizers and refits all quantized linears to their targets, in place.

    Args:
        network: the network, pruned or not; its transforms are exact.
        pictures: those of `full_precision_targets`.
        targets: its result.
        search: sets the bounds of a quantizer from the tensor that it sees.
    """
    streams = _Streams(network)

    def refit(layer: Linear, inputs: tuple[Tensor, ...]) -> None:
        if layer not in targets:
            return
        x = layer.transform(inputs[0])
        for act in layer.act_quantizers():
            if isinstance(act, Quantizer):
                search(act, x)
        _refit(layer, _some(x), targets.pop(layer) - streams.take(layer), search)

    layers = _linears(network)
    inside = {module for layer in layers for module in layer.modules()}
    others = [quantizer for quantizer in quantizers(network).values() if quantizer not in inside]
    was_training = network.training
    with ExitStack() as hooks:
        hooks.callback(network.train, was_training)
        network.eval()
        handles = [layer.register_forward_pre_hook(refit) for layer in layers]
        handles += [q.register_forward_pre_hook(lambda q, inputs: search(q, inputs[0])) for q in others]
        for handle in (*streams.watch(), *handles):
            hooks.callback(handle.remove)
        network(pictures)


def _linears(network: nn.Module) -> list[Linear]:
    return [module for module in network.modules() if isinstance(module, (QuantLinear, QuantSplitLinear))]


def _some(x: Tensor) -> Tensor:
    """(..., C) to rows (R, C), the same ones for the same number of rows."""
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) <= ROWS:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:ROWS].to(rows.device)]


class _Streams:
    """The streams of a network as they are when a pass reaches them."""

    def __init__(self, network: nn.Module) -> None:
        self._streams = streams_of(network)
        self._seen: dict[QuantizedLayer, Tensor] = {}

    def watch(self) -> list[RemovableHandle]:
        return [stream.at.register_forward_pre_hook(partial(self._look, stream)) for stream in self._streams]

    def _look(self, stream: Stream, _: nn.Module, inputs: tuple) -> None:
        self._seen[stream.layer] = _some(stream.arrange(*inputs))

    def take(self, layer: QuantizedLayer) -> Tensor | float:
        return self._seen.pop(layer, 0.0)


def _refit(layer: Linear, x: Tensor, target: Tensor, search: Callable[[Quantizer, Tensor], None]) -> None:
    """New weight and bias from transformed inputs (R, n), and targets (R, O)."""
    quantizers_ = layer.weight_quantizers()
    parts = len(quantizers_)
    weights, wanted = layer.transformed_weight().double().chunk(parts), target.double().chunk(parts, 1)
    keeps = [None] * parts if layer.keep_mask is None else layer.keep_mask.chunk(parts)
    fitted, biases = [], []
    for quantizer, act, weight, y, keep in zip(quantizers_, layer.act_quantizers(), weights, wanted, keeps):
        inputs = act(x).double()
        mean_x, mean_y = inputs.mean(0), y.mean(0)
        if layer.bias is None:
            mean_x, mean_y = torch.zeros_like(mean_x), torch.zeros_like(mean_y)
        centred = inputs - mean_x
        moment = centred.T @ centred / len(centred)
        cross = (y - mean_y - centred @ weight.T).T @ centred / len(centred)
        weight = least_squares(weight, moment, cross, keep)
        if isinstance(quantizer, Quantizer):
            search(quantizer, weight.float())
            scale, zero = (g.double() for g in quantizer.grid())
            weight = round_with_feedback(weight, moment, scale, zero, quantizer.levels, keep)
        fitted.append(weight)
        biases.append(mean_y - weight @ mean_x)
    layer.weight.copy_(layer.transform.invert(torch.cat(fitted).to(x.dtype)))
    if layer.bias is not None:
        layer.bias.copy_(torch.cat(biases))
