"""Linear layers with weights and activations quantized in a transformed domain, and what all such layers share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.quant.correction import Correction, correction_of
from compsrt_basicsr.quant.factory import act_quantizer, weight_quantizer
from compsrt_basicsr.quant.functional.affine import dequantize
from compsrt_basicsr.quant.quantizer import Quantizer, is_hooked, unseen
from compsrt_basicsr.quant.transform import Transform, TransformedWeight, spread, transformed


class QuantizedLayer(nn.Module):
    """Base of quantized layers: the weight is transformed, pruned, then quantized in one or more blocks of rows.

    Attributes:
        keep_mask: buffer of the transformed weight's shape: True where a coefficient is kept, False where it is 0.0.
            `prune_` in quant/pruning.py sets it. None, and absent from the state dict, without pruning.
        fixed_codes: integer codes that replace the weight, as loaded from a packed file, or None.
        own_bias: whether the bias exists only for `equalize`: full-precision checkpoints have none.
        input_shift: buffer (C,), subtracted from the C input channels before the transform. `equalize_` in
            quant/equalization.py sets it, and adds what it takes away to the bias. None without `equalize`.
        input_scale: buffer (C,), positive: divides the shifted input, and multiplies the weight. None likewise.
        correction: what is added to the weight (O, d) of a linear before all else; None for none.

    Args:
        weight: (O, d) or (O, d, kh, kw); becomes a parameter of this layer.
        bias: (O,) or None; likewise. With `equalize`, there is always a bias.
        transform: the transform along d, shared by weight and input.
        config: the quantization of the network.
        channels: C of the input: d, times the groups of a convolution.
        outputs: length of the bias.
    """

    weight: Tensor
    bias: Tensor | None
    keep_mask: Tensor | None
    fixed_codes: Tensor | None
    input_shift: Tensor | None
    input_scale: Tensor | None
    correction: Correction | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        transform: Transform,
        config: QuantConfig,
        channels: int,
        outputs: int,
    ) -> None:
        super().__init__()
        self.own_bias = config.equalize and bias is None
        if self.own_bias:
            bias = nn.Parameter(weight.new_zeros(outputs))
        self.weight, self.bias, self.transform, self.config = weight, bias, transform, config
        self.register_buffer('input_shift', weight.new_zeros(channels) if config.equalize else None)
        self.register_buffer('input_scale', weight.new_ones(channels) if config.equalize else None)
        self.correction = None
        self._transformed = TransformedWeight()
        keep = torch.ones(self.transformed_shape, dtype=torch.bool, device=weight.device) if config.prunes else None
        self.register_buffer('keep_mask', keep)
        self.register_buffer('fixed_codes', None, persistent=False)
        self.register_load_state_dict_pre_hook(_release_codes)

    @property
    def transformed_shape(self) -> tuple[int, ...]:
        """Shape of the transformed weight, (O, n) or (O, n, kh, kw)."""
        return (self.weight.shape[0], self.transform.width, *self.weight.shape[2:])

    @abstractmethod
    def weight_quantizers(self) -> list[Quantizer]:
        """Returns one quantizer per block of rows, from the top; all blocks have the same size.

        With `operands: activations` the entries are `nn.Identity`.
        """

    def dense_weight(self) -> Tensor:
        """Returns the full-precision transformed weight before pruning, (O, n) or (O, n, kh, kw)."""
        if self.correction is not None:
            return transformed(self.corrected_weight(), self.transform, self.input_scale)
        return self._transformed.get(self.weight, self.transform, self.input_scale)

    def corrected_weight(self) -> Tensor:
        """Returns the weight with its correction, of the shape of the weight."""
        return self.weight if self.correction is None else self.weight + self.correction()

    def is_unseen(self, acts: list[Quantizer]) -> bool:
        """Returns whether no quantizer does or shows anything, those of the input included, and no code is fixed."""
        given = self.keep_mask is None and self.fixed_codes is None
        each = (*self.weight_quantizers(), *acts)
        return given and all(getattr(q, 'observer', unseen) is unseen and not is_hooked(q) for q in each)

    def in_full_precision(self, x: Tensor) -> Tensor:
        """Computes a linear layer without its quantizers: (..., d) to (..., O). The bias makes up for the shift."""
        x = x if self.input_shift is None else x - self.input_shift
        return F.linear(x, self.corrected_weight(), self.bias)

    def equalized(self, x: Tensor) -> Tensor:
        """Shifts and scales the input channels, the last dimension: (..., C) to (..., C)."""
        if self.input_shift is None or self.input_scale is None:
            return x
        return (x - self.input_shift) / self.input_scale

    def transformed_weight(self) -> Tensor:
        """Returns the full-precision transformed weight, (O, n) or (O, n, kh, kw), with pruned coefficients 0.0."""
        dense = self.dense_weight()
        return dense if self.keep_mask is None else torch.where(self.keep_mask, dense, 0.0)

    def quantized_weights(self) -> list[Tensor]:
        """Fake-quantizes the transformed weight; returns blocks (O / blocks, n) or (O / blocks, n, kh, kw).

        Pruned coefficients are exactly 0.0 and pass no gradient to the weight or the quantizer.
        """
        blocks = self._by_block(Quantizer.__call__) if self.fixed_codes is None else self._dequantize(self.fixed_codes)
        if self.keep_mask is None:
            return blocks
        return [torch.where(keep, block, 0.0) for keep, block in zip(self.keep_mask.chunk(len(blocks)), blocks)]

    def weight_codes(self) -> Tensor:
        """Returns the integer codes of the transformed weight, int32 of its shape.

        In strict range, the code of a pruned coefficient stands for 0.0. In paper range the grid has no zero: apply
        `keep_mask` to the dequantized values.
        """
        if self.fixed_codes is not None:
            return self.fixed_codes.to(torch.int32)
        return torch.cat(self._by_block(Quantizer.codes))

    @torch.no_grad()
    def fix_codes(self, codes: Tensor) -> None:
        """Uses the codes of a packed file from now on, until another weight is loaded.

        Sets the weight to the values of the codes: exactly for exact transforms, by projection for padded ones.

        Args:
            codes: integers of the transformed weight's shape. The quantizers must have their grids.
        """
        self.fixed_codes = codes
        self.take_transformed(torch.cat(self.quantized_weights()))

    @torch.no_grad()
    def take_transformed(self, weight: Tensor) -> None:
        """Sets the weight from a transformed weight, (O, n) or (O, n, kh, kw); lossless for exact transforms.

        A correction becomes 0.
        """
        weight = self.transform.invert(weight.movedim(1, -1)).movedim(-1, 1)
        self.weight.copy_(weight if self.input_scale is None else weight / spread(self.input_scale, weight))
        if self.correction is not None:
            self.correction.reset_()

    def _dequantize(self, codes: Tensor) -> list[Tensor]:
        quantizers = self.weight_quantizers()
        blocks = codes.float().chunk(len(quantizers))
        return [dequantize(block.flatten(1), *q.grid()).view_as(block) for q, block in zip(quantizers, blocks)]

    def _by_block(self, function: Callable[[Quantizer, Tensor], Tensor]) -> list[Tensor]:
        quantizers = self.weight_quantizers()
        blocks = zip(quantizers, self.transformed_weight().chunk(len(quantizers)))
        return [function(q, block.flatten(1)).view_as(block) for q, block in blocks]

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        """Accepts full-precision checkpoints: what they do not have is reset, and calibration sets it later."""
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)
        parts = {key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)}
        if parts <= {'weight', 'bias'}:
            for name in self.own_state():
                tensor = getattr(self, name)
                tensor.data.fill_(name in ('keep_mask', 'input_scale'))
            own = [f'{prefix}{name}' for name in self.own_state()]
            missing[:] = [key for key in missing if key not in own]

    def own_state(self) -> list[str]:
        """Names the parameters and buffers that the full-precision layer does not have, except its quantizers'."""
        names = [name for name in ('keep_mask', 'input_shift', 'input_scale') if getattr(self, name) is not None]
        return [*names, 'bias'] if self.own_bias else names


def _release_codes(layer: QuantizedLayer, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Drops the fixed codes when another weight is loaded."""
    if f'{prefix}weight' in state:
        layer.fixed_codes = None


class QuantLinear(QuantizedLayer):
    """y = x W^T + b with weight and input activation fake-quantized in the transformed domain.

    Keeps the parameters of the linear layer that it replaces, under the same names.
    """

    def __init__(self, linear: nn.Linear, config: QuantConfig, name: str = '') -> None:
        transform = Transform(config.transform, linear.in_features, config.transform_seed)
        super().__init__(linear.weight, linear.bias, transform, config, linear.in_features, linear.out_features)
        self.correction = correction_of(config, linear.weight)
        self.weight_quantizer = weight_quantizer(config, linear.out_features, f'{name}.weight_quantizer', transform)
        self.act_quantizer = act_quantizer(config, f'{name}.act_quantizer', transform, vectors=True)

    def weight_quantizers(self) -> list[Quantizer]:
        return [cast(Quantizer, self.weight_quantizer)]

    def act_quantizers(self) -> list[Quantizer]:
        """Returns the quantizer of the input, or `nn.Identity` with `operands: weights`."""
        return [cast(Quantizer, self.act_quantizer)]

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., d) to (..., O)."""
        if self.is_unseen(self.act_quantizers()):
            return self.in_full_precision(x)
        return self.from_transformed(self.transform(self.equalized(x)))

    def from_transformed(self, rows: Tensor) -> Tensor:
        """Maps the equalized and transformed input, (..., n), to (..., O)."""
        (weight,) = self.quantized_weights()
        return F.linear(self.act_quantizer(rows), self.transform.project(weight), self.bias)


class QuantSplitLinear(QuantizedLayer):
    """A fused linear layer (qkv) quantized in parts: each part has its own weight and activation quantizer.

    The parts share the transform of the input. The parameters keep their fused names `weight` and `bias`; the
    quantizers are `<part>.weight_quantizer` and `<part>.act_quantizer`.

    Args:
        linear: the layer; the number of its outputs is a multiple of the number of parts.
        config: the quantization of the network.
        parts: names of the parts.
        name: dotted name in the network.
        joined: whether the outputs of the parts are put together again, so that the layer can replace a linear.
    """

    def __init__(
        self, linear: nn.Linear, config: QuantConfig, parts: tuple[str, ...], name: str = '', joined: bool = False
    ) -> None:
        transform = Transform(config.transform, linear.in_features, config.transform_seed)
        super().__init__(linear.weight, linear.bias, transform, config, linear.in_features, linear.out_features)
        self.correction = correction_of(config, linear.weight, len(parts))
        self.parts, self.joined = parts, joined
        size = linear.out_features // len(parts)
        for part in parts:
            pair = nn.Module()
            pair.weight_quantizer = weight_quantizer(config, size, f'{name}.{part}.weight_quantizer', transform)
            pair.act_quantizer = act_quantizer(config, f'{name}.{part}.act_quantizer', transform, vectors=True)
            self.add_module(part, pair)

    def weight_quantizers(self) -> list[Quantizer]:
        return [cast(Quantizer, self.get_submodule(part).weight_quantizer) for part in self.parts]

    def act_quantizers(self) -> list[Quantizer]:
        """Returns the quantizers of the input, one per part; `nn.Identity` with `operands: weights`."""
        return [cast(Quantizer, self.get_submodule(part).act_quantizer) for part in self.parts]

    def gather(self, outputs: list[Tensor]) -> list[Tensor] | Tensor:
        """Returns the outputs of the parts, (..., O / parts) each, as the layer does."""
        return torch.cat(outputs, -1) if self.joined else outputs

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        """Maps (..., d) to one (..., O / parts) per part, or (..., O) if they are joined."""
        if self.is_unseen(self.act_quantizers()):
            output = self.in_full_precision(x)
            return output if self.joined else list(output.chunk(len(self.parts), -1))
        return self.from_transformed(self.transform(self.equalized(x)))

    def from_transformed(self, rows: Tensor) -> list[Tensor] | Tensor:
        """Maps the equalized and transformed input, (..., n)."""
        biases = [None] * len(self.parts) if self.bias is None else self.bias.chunk(len(self.parts))
        outputs = [
            F.linear(act_quantizer(rows), self.transform.project(weight), bias)
            for act_quantizer, weight, bias in zip(self.act_quantizers(), self.quantized_weights(), biases)
        ]
        return self.gather(outputs)


def quantized_layers(network: nn.Module) -> dict[str, QuantizedLayer]:
    """Returns all quantized layers of a network by dotted name, in definition order."""
    return {name: module for name, module in network.named_modules() if isinstance(module, QuantizedLayer)}
