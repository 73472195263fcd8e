"""The residual stream of a Swin block: proj and fc2 add to it."""

from __future__ import annotations

import torch
from basicsr.archs.swinir_arch import SwinTransformerBlock, window_partition
from torch import Tensor

from compsrt_basicsr.quant.layers import QuantizedLayer
from compsrt_basicsr.quant.streams import Stream, has_streams


@has_streams(SwinTransformerBlock)
def swin_streams(block: SwinTransformerBlock) -> list[Stream]:
    """x + proj(attention) in shifted windows, then x + fc2(...) in the order of the picture."""

    def windows(x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, H W, C) to (windows * B, N, C)."""
        x = x.view(len(x), *size, -1)
        if block.shift_size > 0:
            x = torch.roll(x, (-block.shift_size, -block.shift_size), (1, 2))
        return window_partition(x, block.window_size).flatten(1, 2)

    streams = [
        Stream(block.attn.proj, block, windows),
        Stream(block.mlp.fc2, block.norm2, lambda x: x),
    ]
    return [stream for stream in streams if isinstance(stream.layer, QuantizedLayer)]
