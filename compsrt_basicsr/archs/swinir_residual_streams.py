"""The residual streams of SwinIR: proj and fc2 add to that of their block, a convolution to that of its group."""

from __future__ import annotations

import torch
from basicsr.archs.swinir_arch import RSTB, SwinTransformerBlock, window_partition
from torch import Tensor, nn

from compsrt_basicsr.quant.residual_streams import Stream, has_streams


@has_streams(SwinTransformerBlock)
def swin_streams(block: SwinTransformerBlock) -> list[Stream]:
    """x + proj(attention) in shifted windows, then x + fc2(...) in the order of the picture."""

    def windows(x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, H W, C) to (windows * B, N, C)."""
        x = x.view(len(x), *size, -1)
        if block.shift_size > 0:
            x = torch.roll(x, (-block.shift_size, -block.shift_size), (1, 2))
        return window_partition(x, block.window_size).flatten(1, 2)

    return [Stream(block.attn.proj, block, windows), Stream(block.mlp.fc2, block.norm2, lambda x: x)]


@has_streams(RSTB)
def group_streams(group: RSTB) -> list[Stream]:
    """x + conv(blocks(x)); with `resi_connection: 3conv` the last of three."""
    last = group.conv[-1] if isinstance(group.conv, nn.Sequential) else group.conv
    return [Stream(last, group, lambda x, size: x)]
