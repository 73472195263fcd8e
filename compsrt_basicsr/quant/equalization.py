"""Equalization of the input channels of quantized layers before the transform, in closed form.

A layer computes y = sum_c w_c x_c + b. With x'_c = (x_c - mu_c) / s_c and w'_c = s_c w_c, y = sum_c w'_c x'_c + b',
where b' = b + sum_c w_c mu_c takes the shift back. (Shift and scale of channels: Outlier Suppression+, arXiv
2304.09145.) The zeros around the input of a convolution become -mu_c / s_c, see `QuantConv2d.padded`.

The transform spreads the power of x' evenly over its coefficients, and that of w' too. So the error of quantized
activations is proportional to (sum_c sigma_c^2 / s_c^2) (sum_c |w_c|^2 s_c^2), with sigma_c^2 the variance of x_c, and
so is the error of quantized weights. By the Cauchy-Schwarz inequality, s_c = sqrt(sigma_c / |w_c|) minimizes both, and
the product becomes (sum_c sigma_c |w_c|)^2.

Without a transform, a step is as large as the largest channel makes it, and the same s_c is the geometric mean of the
two optima, sigma_c for activations and 1 / |w_c| for weights. Where each weight has a grid for itself, as those of a
depthwise convolution with `granularity: channel`, the scale does not concern the weights, and s_c = sigma_c. An operand
that is no input of a layer has no weights either; its error counts the same in all channels, and s_c = sqrt(sigma_c).
"""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from compsrt_basicsr.quant.convolutions import QuantConvTranspose2d
from compsrt_basicsr.quant.equalizer import Equalizer, equalizers
from compsrt_basicsr.quant.layers import QuantizedLayer, quantized_layers
from compsrt_basicsr.quant.observation import observing
from compsrt_basicsr.quant.sampling import some

ROWS = 16384  # pixels or tokens that the moments of a layer are taken of
_LEAST = 1e-4  # smallest factor, in units of the layer's mean; channels that are constant or unused have no optimum


def optimal_scale(deviation: Tensor, norm: Tensor) -> Tensor:
    """Computes s_c = sqrt(sigma_c / |w_c|), normalized to a geometric mean of 1.

    Args:
        deviation: sigma_c, (C,), at least 0.
        norm: |w_c|, (C,), at least 0.

    Returns:
        (C,), positive.
    """
    sigma = deviation.clamp_min(_LEAST * deviation.mean().clamp_min(1e-30))
    weight = norm.clamp_min(_LEAST * norm.mean().clamp_min(1e-30))
    scale = (sigma / weight).sqrt()
    return scale / scale.log().mean().exp()


@torch.no_grad()
def equalize_(network: nn.Module, images: Tensor) -> None:
    """Sets shift, scale and bias of layers and operands with `equalize`, from one pass in full precision, in place.

    The output of the network in full precision does not change. May be called again.

    Args:
        network: a quantized network with full-precision weights.
        images: (N, C, H, W) in [0, 1].
    """
    layers: list[QuantizedLayer | Equalizer] = [
        *(layer for layer in quantized_layers(network).values() if layer.input_scale is not None),
        *equalizers(network).values(),
    ]
    moments: dict[nn.Module, Tensor] = {}  # number of values, sum, and sum of squares about the origin
    origins: dict[nn.Module, Tensor] = {}

    def look(layer: QuantizedLayer | Equalizer, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach()
        channels_last = isinstance(layer, Equalizer) or layer.weight.ndim == 2
        rows = some((x if channels_last else x.movedim(1, -1)).flatten(0, -2), ROWS).double()
        rows = rows - origins.setdefault(layer, rows.mean(0))  # near the mean, so that little cancels below
        sums = torch.stack([torch.full_like(rows[0], len(rows)), rows.sum(0), rows.square().sum(0)])
        moments[layer] = moments[layer] + sums if layer in moments else sums

    if not layers:
        return
    with ExitStack() as hooks, observing(network):
        for layer in layers:
            hooks.callback(layer.register_forward_pre_hook(look).remove)
        network(images)
    for layer in layers:
        if layer in moments:
            count, total, squares = moments[layer]
            mean = total / count
            deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
            if isinstance(layer, Equalizer):
                _set_operand(layer, origins[layer] + mean, deviation)
            else:
                _set(layer, origins[layer] + mean, deviation)


def _set_operand(equalizer: Equalizer, mean: Tensor, deviation: Tensor) -> None:
    equalizer.input_shift.copy_(_half(mean))
    equalizer.input_scale.copy_(_half(optimal_scale(deviation, torch.ones_like(deviation))))


def _set(layer: QuantizedLayer, mean: Tensor, deviation: Tensor) -> None:
    """Sets shift, scale and bias of a layer from the mean and standard deviation of its input channels, (C,) each."""
    assert layer.input_shift is not None and layer.input_scale is not None and layer.bias is not None
    transposed = isinstance(layer, QuantConvTranspose2d)
    if transposed:  # without a shift: a constant input does not give a constant output
        deviation = (deviation.square() + mean.square()).sqrt()
    weight = (layer.weight.transpose(0, 1) if transposed else layer.weight).double()
    groups = len(mean) // weight.shape[1]
    grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)  # the last is the kernel
    norm = grouped.square().sum((1, 3)).sqrt().flatten()
    if layer.config.granularity == 'channel' and weight.shape[1] == 1 and not transposed:
        norm = 1 / deviation.clamp_min(_LEAST * deviation.mean().clamp_min(1e-30))
    layer.input_scale.copy_(_half(optimal_scale(deviation, norm)))
    if not transposed:
        shift = _half(mean)
        moved = shift - layer.input_shift.double()
        layer.input_shift.copy_(shift)
        layer.bias.add_((grouped.sum(3) @ moved.view(groups, -1, 1)).flatten().to(layer.bias))


def _half(values: Tensor) -> Tensor:
    """Rounds to numbers that float16 has, as packed files store them; what exceeds its range stays."""
    half = values.half().to(values.dtype)
    return torch.where(torch.isfinite(half) & ((half != 0) | (values == 0)), half, values)
