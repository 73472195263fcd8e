"""The ×2 networks for real images, which the SwinIR of BasicSR 1.4.2 lacks.

With the upsampler `nearest+conv`, the authors' SwinIR doubles the features once for each of `conv_up1` and `conv_up2`,
and at ×2 it has no `conv_up2`. BasicSR knows ×4 only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate


def init(original: Callable[..., None], network: Any, *args: Any, **kwargs: Any) -> None:
    """Builds a SwinIR: at ×2 with `nearest+conv` like that of ×4, without `conv_up2`.

    Args:
        original: `SwinIR.__init__`.
        network: the SwinIR.
        args, kwargs: those of `original`.
    """
    bound = inspect.signature(original).bind(network, *args, **kwargs)
    bound.apply_defaults()
    is_real_x2 = bound.arguments['upsampler'] == 'nearest+conv' and bound.arguments['upscale'] == 2
    if is_real_x2:
        bound.arguments['upscale'] = 4
    original(*bound.args, **bound.kwargs)
    if is_real_x2:
        network.upscale = 2
        del network.conv_up2


def forward(original: Callable[..., Tensor], network: Any, x: Tensor) -> Tensor:
    """Computes a SwinIR, (B, C, H, W) to (B, C, upscale H, upscale W).

    Args:
        original: `SwinIR.forward`.
        network: the SwinIR.
        x: the images.
    """
    if network.upsampler != 'nearest+conv' or network.upscale != 2:
        return original(network, x)
    network.mean = network.mean.type_as(x)
    shallow = network.conv_first((x - network.mean) * network.img_range)
    deep = network.conv_after_body(network.forward_features(shallow)) + shallow
    features = network.conv_before_upsample(deep)
    features = network.lrelu(network.conv_up1(interpolate(features, scale_factor=2, mode='nearest')))
    return network.conv_last(network.lrelu(network.conv_hr(features))) / network.img_range + network.mean
