"""Convolutions with weights and activations quantized in a transformed domain of their channels."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.quant.factory import act_quantizer, out_quantizer, weight_quantizer
from compsrt_basicsr.quant.layers import QuantizedLayer
from compsrt_basicsr.quant.quantizer import Quantizer
from compsrt_basicsr.quant.transform import Transform, spread


class QuantConv2d(QuantizedLayer):
    """A convolution with weight and input activation fake-quantized after a transform along the input channels.

    An orthogonal transform of the channels commutes with the convolution, so exact transforms need no inverse. The
    border is padded after quantization: zeros are exactly zero. Grouped convolutions are not transformed.

    With `act_granularity: token` each pixel has a grid of its own: the convolution is the sum of one product of codes
    for each position of the kernel, which the step of the pixel under it multiplies. Grouped ones keep one grid.
    """

    def __init__(self, conv: nn.Conv2d, config: QuantConfig, name: str = '') -> None:
        kind = config.transform if conv.groups == 1 else 'none'
        transform = Transform(kind, conv.in_channels // conv.groups, config.transform_seed)
        super().__init__(conv.weight, conv.bias, transform, config, conv.in_channels, conv.out_channels)
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups
        self.padding_mode, self.border = conv.padding_mode, list(conv._reversed_padding_repeated_twice)
        padded = conv.padding_mode != 'zeros' or config.equalize  # before the convolution
        self.padding: str | tuple[int, ...] = (0, 0) if padded else conv.padding
        self.weight_quantizer = weight_quantizer(config, conv.out_channels, f'{name}.weight_quantizer', transform)
        vectors = conv.groups == 1
        self.act_quantizer = act_quantizer(config, f'{name}.act_quantizer', transform, axis=1, vectors=vectors)
        self.out_quantizer = out_quantizer(config, f'{name}.out_quantizer')

    def weight_quantizers(self) -> list[Quantizer]:
        return [cast(Quantizer, self.weight_quantizer)]

    def act_quantizers(self) -> list[Quantizer]:
        """Returns the quantizer of the input, or `nn.Identity` with `operands: weights`."""
        return [cast(Quantizer, self.act_quantizer)]

    def transformed_input(self, x: Tensor) -> Tensor:
        """Equalizes and transforms the channels: (B, C, H, W) to (B, n, H, W)."""
        if self.input_shift is not None and self.input_scale is not None:
            x = (x - self.input_shift[:, None, None]) / self.input_scale[:, None, None]
        return self.transform.forward_channels(x)

    def padded(self, activation: Tensor) -> Tensor:
        """Pads quantized activations (B, n, H, W) with the border; zeros get what `transformed_input` makes of them.

        So zeros are exact, and the quantizer does not see them: next to shifted activations, they are outliers.
        """
        if not any(self.border):
            return activation
        if self.padding_mode != 'zeros':
            return F.pad(activation, self.border, self.padding_mode)
        padded = F.pad(activation, self.border)
        zero = self.transformed_zero()
        if zero is None:
            return padded
        return padded + zero * F.pad(torch.zeros_like(activation[:1, :1]), self.border, value=1.0)

    def transformed_zero(self) -> Tensor | None:
        """Returns what `transformed_input` makes of an input of zeros, (1, n, 1, 1), or None for zeros."""
        if self.input_shift is None:
            return None
        return self.transformed_input(torch.zeros_like(self.input_shift)[None, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, d, H, W) to (B, O, H', W')."""
        (weight,) = self.quantized_weights()
        activation = self.act_quantizer(self.transformed_input(x))
        if self.transform.projection is not None:
            weight = F.conv2d(weight, self.transform.projection[:, :, None, None])
        return self.convolve(activation, weight)

    def convolve(self, activation: Tensor, weight: Tensor) -> Tensor:
        """Computes the quantized output from what is multiplied."""
        if self.padding_mode != 'zeros' or self.input_shift is not None:
            activation = self.padded(activation)
        result = F.conv2d(activation, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return self.out_quantizer(result)


class QuantConvTranspose2d(QuantizedLayer):
    """A transposed convolution, quantized like `QuantConv2d`; its weight is (d, O / groups, kh, kw)."""

    def __init__(self, conv: nn.ConvTranspose2d, config: QuantConfig, name: str = '') -> None:
        kind = config.transform if conv.groups == 1 else 'none'
        transform = Transform(kind, conv.in_channels, config.transform_seed)
        super().__init__(conv.weight, conv.bias, transform, config, conv.in_channels, conv.out_channels)
        self.stride, self.output_padding = conv.stride, conv.output_padding
        self.padding = cast(tuple[int, ...], conv.padding)
        self.dilation, self.groups = conv.dilation, conv.groups
        self.weight_quantizer = weight_quantizer(config, conv.weight.shape[1], f'{name}.weight_quantizer', transform)
        self.act_quantizer = act_quantizer(config, f'{name}.act_quantizer', transform, axis=1, vectors=conv.groups == 1)
        self.out_quantizer = out_quantizer(config, f'{name}.out_quantizer')

    @property
    def transformed_shape(self) -> tuple[int, ...]:
        """Shape of the transformed weight, (O / groups, n, kh, kw)."""
        return (self.weight.shape[1], self.transform.width, *self.weight.shape[2:])

    def weight_quantizers(self) -> list[Quantizer]:
        return [cast(Quantizer, self.weight_quantizer)]

    def dense_weight(self) -> Tensor:
        """Returns the full-precision transformed weight before pruning, (O / groups, n, kh, kw)."""
        return self._transformed.get(self.weight, self.transform, self.input_scale, 0)

    @torch.no_grad()
    def take_transformed(self, weight: Tensor) -> None:
        """Sets the weight from a transformed weight, (O / groups, n, kh, kw); lossless for exact transforms."""
        weight = self.transform.invert(weight.movedim(1, -1)).movedim(-1, 1)
        weight = weight if self.input_scale is None else weight / spread(self.input_scale, weight)
        self.weight.copy_(weight.movedim(1, 0))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, d, H, W) to (B, O, H', W')."""
        (weight,) = self.quantized_weights()
        if self.input_shift is not None and self.input_scale is not None:
            x = (x - self.input_shift[:, None, None]) / self.input_scale[:, None, None]
        activation = self.act_quantizer(self.transform.forward_channels(x))
        if self.transform.projection is not None:
            weight = F.conv2d(weight, self.transform.projection[:, :, None, None])
        return self.convolve(activation, weight.transpose(0, 1))

    def convolve(self, activation: Tensor, weight: Tensor) -> Tensor:
        """Computes the quantized output from what is multiplied; the weight is (d, O / groups, kh, kw)."""
        args = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return self.out_quantizer(F.conv_transpose2d(activation, weight, self.bias, *args))
