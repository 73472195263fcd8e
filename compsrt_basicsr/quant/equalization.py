"""Equalization of the input channels of quantized layers before the transform, in closed form.

A layer computes y = sum_c w_c x_c + b. With x'_c = (x_c - mu_c) / s_c and w'_c = s_c w_c, y = sum_c w'_c x'_c + b', where
b' = b + sum_c w_c mu_c takes the shift back. (Shift and scale of channels: Outlier Suppression+, arXiv 2304.09145.)

The transform spreads the power of x' evenly over its coefficients, and that of w' too. So the error of quantized
activations is proportional to (sum_c sigma_c^2 / s_c^2) (sum_c |w_c|^2 s_c^2), with sigma_c^2 the variance of x_c, and so
is the error of quantized weights. By the Cauchy-Schwarz inequality, s_c = sqrt(sigma_c / |w_c|) minimizes both, and the
product becomes (sum_c sigma_c |w_c|)^2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compsrt_basicsr.quant.layers import QuantConvTranspose2d, QuantizedLayer, quantized_layers
from compsrt_basicsr.quant.observation import observing

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
    """Sets shift and scale of all layers with `equalize`, from one pass in full precision, in place.

    Args:
        network: a quantized network with full-precision weights.
        images: (N, C, H, W) in [0, 1].
    """
    moments: dict[QuantizedLayer, list[Tensor]] = {}

    def look(layer: QuantizedLayer, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        rows = x.flatten(0, -2) if layer.weight.ndim == 2 else x.movedim(1, -1).flatten(0, -2)
        sums = torch.stack([torch.ones_like(rows[0]) * len(rows), rows.sum(0), rows.square().sum(0)]).double()
        moments[layer] = moments[layer] + sums if layer in moments else sums

    layers = [layer for layer in quantized_layers(network).values() if layer.input_scale is not None]
    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        with observing(network, lambda quantizer, x: None):
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    for layer, (count, total, squares) in moments.items():
        mean = total / count
        _set(layer, mean, (squares / count - mean.square()).clamp_min(0).sqrt())


def _set(layer: QuantizedLayer, mean: Tensor, deviation: Tensor) -> None:
    """Sets shift, scale and bias of a layer from the mean and standard deviation of its input channels, (C,) each."""
    assert layer.input_shift is not None and layer.input_scale is not None and layer.bias is not None
    transposed = isinstance(layer, QuantConvTranspose2d)
    weight = (layer.weight.transpose(0, 1) if transposed else layer.weight).double()
    groups = len(mean) // weight.shape[1]
    grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)  # the last is the kernel
    norm = grouped.square().sum((1, 3)).sqrt().flatten()
    layer.input_scale.copy_(optimal_scale(deviation, norm))
    if not transposed:  # there, a constant input does not give a constant output
        layer.input_shift.copy_(mean)
        layer.bias.add_((grouped.sum(3) @ mean.view(groups, -1, 1)).flatten().to(layer.bias))
