"""Equalization of the channels of an operand that is no input of a layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Equalizer(nn.Module):
    """Shifts and scales the channels of a quantizer's input, and its output back: s_c Q((x_c - mu_c) / s_c) + mu_c.

    Attributes:
        input_shift: buffer (C,), mu.
        input_scale: buffer (C,), s, positive; `equalize_` in `quant/equalization.py` sets both.

    Args:
        channels: C, the size of the last dimension.
    """

    input_shift: Tensor
    input_scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer('input_shift', torch.zeros(channels))
        self.register_buffer('input_scale', torch.ones(channels))

    def forward(self, x: Tensor, quantizer: nn.Module) -> Tensor:
        """Quantizes (..., C)."""
        quantized: Tensor = quantizer((x - self.input_shift) / self.input_scale)
        return quantized * self.input_scale + self.input_shift

    def own_state(self) -> list[str]:
        """Names the buffers, which a full-precision network does not have."""
        return ['input_shift', 'input_scale']

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Accepts full-precision checkpoints: both are reset, and calibration sets them later."""
        own = [f'{prefix}{name}' for name in self.own_state()]
        if not any(key in state for key in own):
            self.input_shift.zero_()
            self.input_scale.fill_(1.0)
            return
        super()._load_from_state_dict(state, prefix, *args)


def quantized(x: Tensor, quantizer: nn.Module, equalizer: nn.Module | None) -> Tensor:
    """Quantizes (..., C), through an equalizer if there is one."""
    result: Tensor = quantizer(x) if equalizer is None else equalizer(x, quantizer)
    return result


def equalizers(network: nn.Module) -> dict[str, Equalizer]:
    """Returns the equalizers of a network by dotted name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Equalizer)}
