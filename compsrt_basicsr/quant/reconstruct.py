"""Calibration in execution order, with each layer refitted to the full-precision network.

A first pass in full precision stores the target output of each layer. In a second pass, each quantizer is set and each
layer is fitted when its input arrives, which then comes from layers that are already quantized. If a layer adds to a
residual stream, its target also compensates for the error of the stream, so errors do not add up from block to block.

Fitted are the quantized linear layers, and the full-precision convolutions behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compsrt_basicsr.quant.functional.positive_definite import check_finite
from compsrt_basicsr.quant.functional.reconstruct import least_squares, round_with_feedback
from compsrt_basicsr.quant.layer_errors import naming_layer
from compsrt_basicsr.quant.layers import QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.observation import observing
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers
from compsrt_basicsr.quant.residual_streams import ResidualStream, residual_streams

ROWS = 16384  # tokens used for a fit; more did not change the results

Linear = QuantLinear | QuantSplitLinear
Targets = dict[nn.Module, Tensor]
Search = Callable[[Quantizer, Tensor], None]


@torch.no_grad()
def full_precision_targets(network: nn.Module, images: Tensor) -> Targets:
    """Records, for each layer to be fitted, its full-precision output plus the residual stream that it adds to.

    Args:
        network: a quantized network that still has its full-precision weights.
        images: (N, 3, H, W) in [0, 1].

    Returns:
        (R, O) float32 per layer, for all tokens or `ROWS` of them; 700 MB in total for SwinIR-light.
    """
    targets: Targets = {}
    layers = _fitted(network)
    streams = _Streams(network)

    def keep(layer: nn.Module, _: object, output: Tensor | list[Tensor]) -> None:
        if layer not in targets:  # if a layer runs several times, the first run counts
            targets[layer] = _some(_rows(layer, output)) + streams.take(layer)

    with ExitStack() as hooks, observing(network, lambda quantizer, x: None):
        for handle in (*streams.watch(), *(layer.register_forward_hook(keep) for layer in layers)):
            hooks.callback(handle.remove)
        network(images)
    return targets


@torch.no_grad()
def reconstruct_(network: nn.Module, images: Tensor, targets: Targets, search: Search) -> None:
    """Sets all quantizers and refits all layers with targets, in place.

    Args:
        network: the network, pruned or not; its transforms must be exact.
        images: those given to `full_precision_targets`.
        targets: the result of `full_precision_targets`; consumed.
        search: sets the bounds of a quantizer from its input.

    Raises:
        CompSRTError: if the inputs or targets of a layer are not finite, or its weight becomes too large for float32.
    """
    streams = _Streams(network)
    names = {module: name for name, module in network.named_modules()}
    errors = False  # whether the pass has reached a quantizer

    def refit(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        nonlocal errors
        target, stream = targets.pop(layer, None), streams.take(layer)
        if target is None:
            return
        with naming_layer(names[layer] or type(layer).__name__, 'reconstruct: false'):
            if isinstance(layer, nn.Conv2d):
                if errors:
                    _refit_convolution(layer, inputs[0], target - stream)
                return
            errors = True
            _refit_linear(layer, layer.transform(layer.equalized(inputs[0])), target - stream, search)

    def arrive(quantizer: Quantizer, inputs: tuple[Tensor, ...]) -> None:
        nonlocal errors
        errors = True
        search(quantizer, inputs[0])

    layers = _fitted(network)
    inside = {module for layer in layers for module in layer.modules()}
    others = [quantizer for quantizer in quantizers(network).values() if quantizer not in inside]
    was_training = network.training
    with ExitStack() as hooks:
        hooks.callback(network.train, was_training)
        network.eval()
        handles = [layer.register_forward_pre_hook(refit) for layer in layers]
        handles += [quantizer.register_forward_pre_hook(arrive) for quantizer in others]
        for handle in (*streams.watch(), *handles):
            hooks.callback(handle.remove)
        network(images)


def _fitted(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, (QuantLinear, QuantSplitLinear)) or _plain_convolution(m)]


def _plain_convolution(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.groups == 1
        and module.dilation == (1, 1)
        and module.padding_mode == 'zeros'
        and not isinstance(module.padding, str)
    )


class _Streams:
    """The current values of a network's residual streams during a forward pass."""

    def __init__(self, network: nn.Module) -> None:
        self._streams = residual_streams(network)
        self._seen: dict[nn.Module, Tensor] = {}

    def watch(self) -> list[RemovableHandle]:
        return [stream.at.register_forward_pre_hook(partial(self._look, stream)) for stream in self._streams]

    def _look(self, stream: ResidualStream, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._seen[stream.layer] = _some(stream.arrange(*inputs).flatten(0, -2))

    def take(self, layer: nn.Module) -> Tensor | float:
        return self._seen.pop(layer, 0.0)


def _rows(layer: nn.Module, output: Tensor | list[Tensor]) -> Tensor:
    """Reshapes a layer's output to (M, O): one row per token, image by image in raster order."""
    joined = output if isinstance(output, Tensor) else torch.cat(output, -1)
    return (joined.movedim(1, -1) if isinstance(layer, nn.Conv2d) else joined).flatten(0, -2)


def _some(rows: Tensor) -> Tensor:
    return rows if len(rows) <= ROWS else rows[_chosen(len(rows)).to(rows.device)]


def _chosen(count: int) -> Tensor:
    """Selects at most `ROWS` of `count` rows, the same ones for the same count."""
    if count <= ROWS:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:ROWS]


def _refit_linear(layer: Linear, x: Tensor, target: Tensor, search: Search) -> None:
    """Sets bounds, weight and bias from transformed inputs (..., n) and targets (R, O)."""
    weight_quantizers = layer.weight_quantizers()
    parts = len(weight_quantizers)
    weights, targets = layer.transformed_weight().double().chunk(parts), target.double().chunk(parts, 1)
    keeps = [None] * parts if layer.keep_mask is None else layer.keep_mask.chunk(parts)
    chosen = _some(x.flatten(0, -2))
    fitted, biases = [], []
    for quantizer, act, weight, y, keep in zip(weight_quantizers, layer.act_quantizers(), weights, targets, keeps):
        if isinstance(act, Quantizer):
            search(act, x)
        fit = _Fit(act(chosen).double(), y, layer.bias is not None)
        weight = fit.weight(weight, keep)
        if isinstance(quantizer, Quantizer):
            search(quantizer, weight.float())
            scale, zero = (g.double() for g in quantizer.grid())
            weight = round_with_feedback(weight, fit.moment, scale, zero, quantizer.levels, keep)
        fitted.append(weight)
        biases.append(fit.bias(weight))
    layer.take_transformed(torch.cat(fitted).to(x.dtype))
    if layer.bias is not None:
        layer.bias.copy_(torch.cat(biases))


def _refit_convolution(layer: nn.Conv2d, x: Tensor, target: Tensor) -> None:
    """Sets weight and bias of a full-precision convolution from inputs (B, C, H, W) and targets (R, O)."""
    assert not isinstance(layer.padding, str)  # see _plain_convolution
    (height, width), (down, right), (rows, columns) = layer.kernel_size, layer.stride, layer.padding
    padded = F.pad(x, (columns, columns, rows, rows))
    patches = padded.unfold(2, height, down).unfold(3, width, right).permute(0, 2, 3, 1, 4, 5)  # a view
    chosen = torch.unravel_index(_chosen(patches.shape[:3].numel()).to(x.device), patches.shape[:3])
    fit = _Fit(patches[chosen].flatten(1).double(), target.double(), layer.bias is not None)
    weight = fit.weight(layer.weight.flatten(1).double())
    layer.weight.copy_(weight.view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.copy_(fit.bias(weight))


class _Fit:
    """Least-squares fit of a linear map from inputs (R, n) to targets (R, O), centred if it has a bias."""

    def __init__(self, inputs: Tensor, target: Tensor, with_bias: bool) -> None:
        self._mean_x, self._mean_y = (t.mean(0) if with_bias else torch.zeros_like(t[0]) for t in (inputs, target))
        self._x, self._y = inputs - self._mean_x, target - self._mean_y
        self.moment = self._x.T @ self._x / len(inputs)

    def weight(self, start: Tensor, keep: Tensor | None = None) -> Tensor:
        """Computes the least-squares weight near `start`, (O, n)."""
        cross = (self._y - self._x @ start.T).T @ self._x / len(self._x)
        fitted = least_squares(start, self.moment, cross, len(self._x), keep)
        check_finite(the_fitted_weight_is=fitted.float())
        return fitted

    def bias(self, weight: Tensor) -> Tensor:
        """Computes the bias for a weight, (O,)."""
        fitted = self._mean_y - weight @ self._mean_x
        check_finite(the_fitted_bias_is=fitted.float())
        return fitted
