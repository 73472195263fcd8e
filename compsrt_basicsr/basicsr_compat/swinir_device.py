"""SwinIR's forward pass on the device of the network: nothing is made on the CPU and copied.

BasicSR's SwinIR makes the attention mask anew in each block whenever the image has another size than `img_size`, on the
CPU, for blocks that do not shift their windows too, where it is zero. Its `mean` stays on the CPU until the first pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from compsrt_basicsr.basicsr_compat.window_masks import window_masks


def init(original: Callable[..., None], network: Any, *args: Any, **kwargs: Any) -> None:
    """Builds a SwinIR whose `mean` is a buffer, which moves with the network; it is not in the state dict.

    Args:
        original: `SwinIR.__init__`.
        network: the SwinIR.
        args, kwargs: those of `original`.
    """
    original(network, *args, **kwargs)
    mean = network.mean
    del network.mean
    network.register_buffer('mean', mean, persistent=False)


def block_forward(original: Callable[..., Tensor], block: Any, x: Tensor, x_size: tuple[int, int]) -> Tensor:
    """Computes a Swin block with a mask that all blocks share, (B, H W, C) to the same shape.

    Args:
        original: `SwinTransformerBlock.forward`, which computes the same.
        block: the block.
        x: the tokens.
        x_size: H and W, multiples of the window.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined]  # the graph computes the sizes
        return original(block, x, x_size)
    (height, width), side, shift = x_size, block.window_size, block.shift_size
    rows, columns = height // side, width // side
    if shift == 0:
        mask = None
    elif block.input_resolution == x_size:
        mask = block.attn_mask
    else:
        mask = window_masks(side, shift, rows, columns, x.device)
    image = block.norm1(x).view(len(x), height, width, -1)
    if shift:
        image = image.roll((-shift, -shift), (1, 2))
    windows = image.view(len(x), rows, side, columns, side, -1).transpose(2, 3).reshape(-1, side * side, x.shape[-1])
    attended = block.attn(windows, mask=mask).view(len(x), rows, columns, side, side, -1)
    image = attended.transpose(2, 3).reshape(len(x), height, width, -1)
    if shift:
        image = image.roll((shift, shift), (1, 2))
    x = x + block.drop_path(image.flatten(1, 2))
    return x + block.drop_path(block.mlp(block.norm2(x)))
