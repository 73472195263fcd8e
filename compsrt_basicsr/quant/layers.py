"""Linear layers and convolutions whose operands are quantized in a transformed domain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.ops.transform import resolve_transform, transform_matrix
from compsrt_basicsr.quant.config import QuantConfig
from compsrt_basicsr.quant.quantizer import Quantizer


class Transform(nn.Module):
    """An orthogonal transform of d coefficients, x_h = x @ T, in float32 even under autocast.

    Attributes:
        matrix: T, (d, n), or None for the identity.
        projection: T^T T, (n, n), for a transform with n > d, whose product needs it:
            (x_h T^T)(w_h T^T)^T = x_h (T^T T) w_h^T; None for exact transforms, where it is the identity.
    """

    def __init__(self, kind: str, order: int, seed: int = 0) -> None:
        super().__init__()
        self.kind = resolve_transform(kind, order)
        matrix = transform_matrix(self.kind, order, seed)
        identity = self.kind == 'none'
        projection = matrix.T @ matrix if matrix.shape[1] > order else None
        self.register_buffer('matrix', None if identity else matrix.float(), persistent=False)
        self.register_buffer('projection', None if projection is None else projection.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to (..., n)."""
        if self.matrix is None:
            return x
        with torch.autocast(x.device.type, enabled=False):
            return x.float() @ self.matrix

    def forward_channels(self, x: Tensor) -> Tensor:
        """(B, d, H, W) to (B, n, H, W), along the channels."""
        if self.matrix is None:
            return x
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x.float(), self.matrix.T[:, :, None, None])

    def project(self, w: Tensor) -> Tensor:
        """(..., n) to (..., n): one operand of a product of two padded transforms; the identity for exact ones."""
        return w if self.projection is None else w @ self.projection

    def invert(self, x: Tensor) -> Tensor:
        """(..., n) to (..., d): x_h @ T^T."""
        return x if self.matrix is None else x @ self.matrix.T

    def extra_repr(self) -> str:
        return self.kind if self.matrix is None else f'{self.kind}, {tuple(self.matrix.shape)}'


class TransformedWeight:
    """The transformed weight of a layer, computed once while the weight stays as it is and is frozen."""

    def __init__(self) -> None:
        self._key: tuple | None = None
        self._source: Tensor | None = None  # keeps the memory, so that no other weight can get the same address
        self._value: Tensor | None = None

    def get(self, weight: Tensor, transform: Transform) -> Tensor:
        """T-domain weight of `weight`: (O, d) to (O, n), or (O, d, kh, kw) to (O, n, kh, kw)."""
        if weight.requires_grad or torch.compiler.is_compiling():
            return self._compute(weight, transform)
        key = (weight._version, weight.data_ptr(), weight.device, weight.dtype)
        if key != self._key:
            with torch.inference_mode(False), torch.no_grad():
                self._key, self._source, self._value = key, weight.detach(), self._compute(weight, transform)
        return self._value  # type: ignore[return-value]

    def __deepcopy__(self, memo: dict) -> TransformedWeight:
        return TransformedWeight()

    def __getstate__(self) -> dict:
        return {'_key': None, '_source': None, '_value': None}

    @staticmethod
    def _compute(weight: Tensor, transform: Transform) -> Tensor:
        return transform(weight) if weight.ndim == 2 else transform.forward_channels(weight)


def _weight_quantizer(config: QuantConfig, channels: int, name: str) -> Quantizer:
    per_channel = channels if config.granularity == 'channel' else None
    return Quantizer(config.weight_bits, config.code_range, per_channel, f'{name}.weight_quantizer')


def _act_quantizer(config: QuantConfig, name: str) -> Quantizer:
    return Quantizer(config.act_bits, config.code_range, name=f'{name}.act_quantizer')


class QuantLinear(nn.Module):
    """y = x W^T + b with weight and input activation fake-quantized in the transformed domain.

    Takes over the parameters of the linear it replaces, under the same names.
    """

    def __init__(self, linear: nn.Linear, config: QuantConfig, name: str = '') -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.transform = Transform(config.transform, linear.in_features, config.seed)
        self.weight_quantizer = _weight_quantizer(config, linear.out_features, name)
        self.act_quantizer = _act_quantizer(config, name)
        self._transformed = TransformedWeight()

    def transformed_weight(self) -> Tensor:
        """Full-precision weight in the transformed domain, (O, n)."""
        return self._transformed.get(self.weight, self.transform)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to (..., O)."""
        activation = self.act_quantizer(self.transform(x))
        weight = self.weight_quantizer(self.transformed_weight())
        return F.linear(activation, self.transform.project(weight), self.bias)


class QuantSplitLinear(nn.Module):
    """One fused linear (qkv) quantized as several: each part has its own weight and activation quantizer.

    The parts share the transform of their input. Parameters keep the fused names `weight` and `bias`; the quantizers
    are `<part>.weight_quantizer` and `<part>.act_quantizer`.
    """

    def __init__(self, linear: nn.Linear, config: QuantConfig, parts: tuple[str, ...], name: str = '') -> None:
        super().__init__()
        self.weight, self.bias, self.parts = linear.weight, linear.bias, parts
        self.transform = Transform(config.transform, linear.in_features, config.seed)
        size = linear.out_features // len(parts)
        for part in parts:
            pair = nn.Module()
            pair.weight_quantizer = _weight_quantizer(config, size, f'{name}.{part}')
            pair.act_quantizer = _act_quantizer(config, f'{name}.{part}')
            self.add_module(part, pair)
        self._transformed = TransformedWeight()

    def transformed_weight(self) -> Tensor:
        """Full-precision fused weight in the transformed domain, (O, n)."""
        return self._transformed.get(self.weight, self.transform)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(..., d) to one (..., O / parts) for each part."""
        transformed = self.transform(x)
        weights = self.transformed_weight().chunk(len(self.parts))
        biases = [None] * len(self.parts) if self.bias is None else self.bias.chunk(len(self.parts))
        results = []
        for part, weight, bias in zip(self.parts, weights, biases):
            pair = self.get_submodule(part)
            weight = self.transform.project(pair.weight_quantizer(weight))
            results.append(F.linear(pair.act_quantizer(transformed), weight, bias))
        return results


class QuantConv2d(nn.Module):
    """A convolution with weight and input activation fake-quantized after a transform along the input channels.

    An orthogonal transform of the channels commutes with the convolution, so exact orders need no inverse. Zero padding
    is applied after quantization: the border is an exact zero. Grouped convolutions are not transformed.
    """

    def __init__(self, conv: nn.Conv2d, config: QuantConfig, name: str = '') -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.padding, self.dilation, self.groups = conv.stride, conv.padding, conv.dilation, conv.groups
        kind = config.transform if conv.groups == 1 else 'none'
        self.transform = Transform(kind, conv.in_channels // conv.groups, config.seed)
        self.weight_quantizer = _weight_quantizer(config, conv.out_channels, name)
        self.act_quantizer = _act_quantizer(config, name)
        self._transformed = TransformedWeight()

    def transformed_weight(self) -> Tensor:
        """Full-precision weight in the transformed domain, (O, n, kh, kw)."""
        return self._transformed.get(self.weight, self.transform)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, H, W) to (B, O, H', W')."""
        activation = self.act_quantizer(self.transform.forward_channels(x))
        transformed = self.transformed_weight()
        weight = self.weight_quantizer(transformed.flatten(1)).view_as(transformed)
        if self.transform.projection is not None:
            weight = F.conv2d(weight, self.transform.projection[:, :, None, None])
        return F.conv2d(activation, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
