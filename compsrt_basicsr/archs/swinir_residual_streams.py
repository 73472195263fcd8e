"""The residual streams of SwinIR: proj and fc2 add to the stream of a block, a convolution to that of a group."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compsrt_basicsr.basicsr_compat.swinir import RSTB, SwinTransformerBlock, window_partition
from compsrt_basicsr.quant.residual_streams import ResidualStream, finds_streams


@finds_streams(SwinTransformerBlock)
def block_streams(block: SwinTransformerBlock) -> list[ResidualStream]:
    """Lists x + proj(attention), whose tokens are in window order, and x + fc2(...), in raster order."""

    def windows(x: Tensor, size: tuple[int, int]) -> Tensor:
        """Shifts and partitions (B, H W, C) to (windows * B, N, C)."""
        x = x.view(len(x), *size, -1)
        if block.shift_size > 0:
            x = torch.roll(x, (-block.shift_size, -block.shift_size), (1, 2))
        return window_partition(x, block.window_size).flatten(1, 2)

    return [ResidualStream(block.attn.proj, block, windows), ResidualStream(block.mlp.fc2, block.norm2, lambda x: x)]


@finds_streams(RSTB)
def group_streams(group: RSTB) -> list[ResidualStream]:
    """Lists x + conv(blocks(x)); with `resi_connection: 3conv`, the layer is the last of the three convolutions."""
    last = group.conv[-1] if isinstance(group.conv, nn.Sequential) else group.conv
    return [ResidualStream(last, group, lambda x, size: x)]
