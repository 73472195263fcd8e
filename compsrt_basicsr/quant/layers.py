"""Linear layers and convolutions whose operands are quantized in a transformed domain."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.config.quantization import QuantConfig
from compsrt_basicsr.quant.factory import act_quantizer, weight_quantizer
from compsrt_basicsr.quant.functional.affine import dequantize
from compsrt_basicsr.quant.quantizer import Quantizer
from compsrt_basicsr.quant.transform import Transform, TransformedWeight


class QuantizedLayer(nn.Module):
    """The weight of a quantized layer: transformed, pruned, then quantized in one or several blocks of rows.

    `keep_mask`, a buffer of the transformed weight's shape, is True where a coefficient is kept and False where it is
    0.0; it is None, and in no state dict, where the configuration does not prune. `prune_` in quant/pruning.py sets it.

    Args:
        weight: (O, d) or (O, d, kh, kw), taken over.
        bias: (O,) or None, taken over.
        transform: the transform along d, which weight and input share.
        config: the quantization of the network.
    """

    def __init__(
        self, weight: nn.Parameter, bias: nn.Parameter | None, transform: Transform, config: QuantConfig
    ) -> None:
        super().__init__()
        self.weight, self.bias, self.transform, self.config = weight, bias, transform, config
        self._transformed = TransformedWeight()
        shape = (weight.shape[0], transform.width, *weight.shape[2:])
        keep = torch.ones(shape, dtype=torch.bool, device=weight.device) if config.prunes else None
        self.register_buffer('keep_mask', keep)
        self.register_buffer('fixed_codes', None, persistent=False)
        self.register_load_state_dict_pre_hook(_release_codes)

    @abstractmethod
    def weight_quantizers(self) -> list[Quantizer]:
        """The quantizers of the weight's blocks of rows, all of one size, from the top."""

    def dense_weight(self) -> Tensor:
        """Full-precision weight in the transformed domain before pruning, (O, n) or (O, n, kh, kw)."""
        return self._transformed.get(self.weight, self.transform)

    def transformed_weight(self) -> Tensor:
        """Full-precision weight in the transformed domain, (O, n) or (O, n, kh, kw); pruned coefficients are 0.0."""
        dense = self.dense_weight()
        return dense if self.keep_mask is None else torch.where(self.keep_mask, dense, 0.0)

    def quantized_weights(self) -> list[Tensor]:
        """Fake-quantized blocks of the transformed weight: (O / blocks, n) or (O / blocks, n, kh, kw) each.

        Pruned coefficients are exactly 0.0, and give no gradient to the weight or to the quantizer.
        """
        blocks = self._by_block(Quantizer.__call__) if self.fixed_codes is None else self._dequantized()
        if self.keep_mask is None:
            return blocks
        return [torch.where(keep, block, 0.0) for keep, block in zip(self.keep_mask.chunk(len(blocks)), blocks)]

    def weight_codes(self) -> Tensor:
        """Integer codes of the transformed weight, int32 of its shape.

        In strict range the code of a pruned coefficient has the value 0.0. The grid of the paper range has no zero:
        there `keep_mask` must be applied to the dequantized values.
        """
        if self.fixed_codes is not None:
            return self.fixed_codes.to(torch.int32)
        return torch.cat(self._by_block(Quantizer.codes))

    @torch.no_grad()
    def fix_codes(self, codes: Tensor) -> None:
        """Computes from these codes, as a packed file holds them, until another weight is loaded.

        The weight becomes what they stand for: exactly for exact transforms, the nearest there is for padded ones.

        Args:
            codes: integers of the transformed weight's shape; the quantizers must have their grids.
        """
        self.fixed_codes = codes
        self.take_transformed(torch.cat(self.quantized_weights()))

    @torch.no_grad()
    def take_transformed(self, weight: Tensor) -> None:
        """Takes over a weight given in the transformed domain, (O, n) or (O, n, kh, kw); exact transforms keep it."""
        self.weight.copy_(self.transform.invert(weight.movedim(1, -1)).movedim(-1, 1))

    def _dequantized(self) -> list[Tensor]:
        quantizers = self.weight_quantizers()
        blocks = self.fixed_codes.float().chunk(len(quantizers))
        return [dequantize(block.flatten(1), *q.grid()).view_as(block) for q, block in zip(quantizers, blocks)]

    def _by_block(self, function) -> list[Tensor]:
        quantizers = self.weight_quantizers()
        blocks = self.transformed_weight().chunk(len(quantizers))
        return [function(q, block.flatten(1)).view_as(block) for q, block in zip(quantizers, blocks)]

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        """A full-precision checkpoint has no mask: it loads, and the mask awaits `prune_`."""
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)
        parts = {key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)}
        if self.keep_mask is not None and parts <= {'weight', 'bias'}:
            self.keep_mask.fill_(True)
            missing[:] = [key for key in missing if key != f'{prefix}keep_mask']


def _release_codes(layer: QuantizedLayer, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """A loaded weight has codes of its own."""
    if f'{prefix}weight' in state:
        layer.fixed_codes = None


class QuantLinear(QuantizedLayer):
    """y = x W^T + b with weight and input activation fake-quantized in the transformed domain.

    Takes over the parameters of the linear it replaces, under the same names.
    """

    def __init__(self, linear: nn.Linear, config: QuantConfig, name: str = '') -> None:
        transform = Transform(config.transform, linear.in_features, config.seed)
        super().__init__(linear.weight, linear.bias, transform, config)
        self.weight_quantizer = weight_quantizer(config, linear.out_features, f'{name}.weight_quantizer')
        self.act_quantizer = act_quantizer(config, f'{name}.act_quantizer')

    def weight_quantizers(self) -> list[Quantizer]:
        return [self.weight_quantizer]

    def act_quantizers(self) -> list[Quantizer]:
        """The quantizer of the input."""
        return [self.act_quantizer]

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to (..., O)."""
        (weight,) = self.quantized_weights()
        activation = self.act_quantizer(self.transform(x))
        return F.linear(activation, self.transform.project(weight), self.bias)


class QuantSplitLinear(QuantizedLayer):
    """One fused linear (qkv) quantized as several: each part has its own weight and activation quantizer.

    The parts share the transform of their input. Parameters keep the fused names `weight` and `bias`; the quantizers
    are `<part>.weight_quantizer` and `<part>.act_quantizer`.
    """

    def __init__(self, linear: nn.Linear, config: QuantConfig, parts: tuple[str, ...], name: str = '') -> None:
        transform = Transform(config.transform, linear.in_features, config.seed)
        super().__init__(linear.weight, linear.bias, transform, config)
        self.parts = parts
        size = linear.out_features // len(parts)
        for part in parts:
            pair = nn.Module()
            pair.weight_quantizer = weight_quantizer(config, size, f'{name}.{part}.weight_quantizer')
            pair.act_quantizer = act_quantizer(config, f'{name}.{part}.act_quantizer')
            self.add_module(part, pair)

    def weight_quantizers(self) -> list[Quantizer]:
        return [self.get_submodule(part).weight_quantizer for part in self.parts]

    def act_quantizers(self) -> list[Quantizer]:
        """The quantizers of the input, one for each part."""
        return [self.get_submodule(part).act_quantizer for part in self.parts]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(..., d) to one (..., O / parts) for each part."""
        transformed = self.transform(x)
        biases = [None] * len(self.parts) if self.bias is None else self.bias.chunk(len(self.parts))
        return [
            F.linear(act_quantizer(transformed), self.transform.project(weight), bias)
            for act_quantizer, weight, bias in zip(self.act_quantizers(), self.quantized_weights(), biases)
        ]


class QuantConv2d(QuantizedLayer):
    """A convolution with weight and input activation fake-quantized after a transform along the input channels.

    An orthogonal transform of the channels commutes with the convolution, so exact orders need no inverse. Zero padding
    is applied after quantization: the border is an exact zero. Grouped convolutions are not transformed.
    """

    def __init__(self, conv: nn.Conv2d, config: QuantConfig, name: str = '') -> None:
        kind = config.transform if conv.groups == 1 else 'none'
        transform = Transform(kind, conv.in_channels // conv.groups, config.seed)
        super().__init__(conv.weight, conv.bias, transform, config)
        self.stride, self.padding, self.dilation, self.groups = conv.stride, conv.padding, conv.dilation, conv.groups
        self.weight_quantizer = weight_quantizer(config, conv.out_channels, f'{name}.weight_quantizer')
        self.act_quantizer = act_quantizer(config, f'{name}.act_quantizer')

    def weight_quantizers(self) -> list[Quantizer]:
        return [self.weight_quantizer]

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, H, W) to (B, O, H', W')."""
        (weight,) = self.quantized_weights()
        activation = self.act_quantizer(self.transform.forward_channels(x))
        if self.transform.projection is not None:
            weight = F.conv2d(weight, self.transform.projection[:, :, None, None])
        return F.conv2d(activation, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def quantized_layers(network: nn.Module) -> dict[str, QuantizedLayer]:
    """All quantized layers of a network by dotted name, in definition order."""
    return {name: module for name, module in network.named_modules() if isinstance(module, QuantizedLayer)}
