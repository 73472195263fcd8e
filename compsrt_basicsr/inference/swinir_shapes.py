"""The arguments of a SwinIR, read from the shapes of its weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compsrt_basicsr.errors import CompSRTError

_BLOCK = 'layers.0.residual_group.blocks.0'
_DEFAULT_SIZE = 64  # LR pixels; decides no weight


def is_swinir(state: Mapping[str, Any]) -> bool:
    """Whether a state dict looks like one of a SwinIR."""
    return 'conv_first.weight' in state and f'{_BLOCK}.attn.qkv.weight' in state


def swinir_arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What BasicSR's SwinIR must be built with to take these weights.

    Args:
        state: a full-precision state dict, with or without the recomputable buffers.

    Raises:
        CompSRTError: the weights are of no SwinIR that BasicSR can build.
    """
    try:
        return _arguments(state)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CompSRTError(f'These weights are not a whole SwinIR ({error} is missing or odd).') from error


def _arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    embed_dim, in_chans = state['conv_first.weight'].shape[:2]
    depths = _depths(state)
    tables = [
        state[f'layers.{i}.residual_group.blocks.0.attn.relative_position_bias_table'] for i in range(len(depths))
    ]
    window_size = (math.isqrt(tables[0].shape[0]) + 1) // 2
    upsampler, upscale = _tail(state, in_chans)
    return {
        'upscale': upscale,
        'in_chans': in_chans,
        'img_size': _img_size(state, window_size),
        'window_size': window_size,
        'img_range': 1.0,
        'depths': depths,
        'embed_dim': embed_dim,
        'num_heads': [table.shape[1] for table in tables],
        'mlp_ratio': state[f'{_BLOCK}.mlp.fc1.weight'].shape[0] / embed_dim,
        'qkv_bias': f'{_BLOCK}.attn.qkv.bias' in state,
        'ape': 'absolute_pos_embed' in state,
        'patch_norm': 'patch_embed.norm.weight' in state,
        'upsampler': upsampler,
        'resi_connection': '1conv' if 'layers.0.conv.weight' in state else '3conv',
    }


def _depths(state: Mapping[str, Tensor]) -> list[int]:
    """Blocks in each residual group."""
    found = {
        match.groups()
        for match in map(re.compile(r'layers\.(\d+)\.residual_group\.blocks\.(\d+)\.').match, state)
        if match
    }
    groups = sorted({int(group) for group, _ in found})
    return [sum(int(other) == group for other, _ in found) for group in groups]


def _tail(state: Mapping[str, Tensor], channels: int) -> tuple[str, int]:
    """Upsampler and scale."""
    if 'conv_up1.weight' in state:
        return 'nearest+conv', 4 if 'conv_up2.weight' in state else 2
    if 'upsample.0.weight' not in state:
        return '', 1
    if 'conv_before_upsample.0.weight' not in state:
        return 'pixelshuffledirect', math.isqrt(state['upsample.0.weight'].shape[0] // channels)
    width = state['conv_last.weight'].shape[1]
    stages = [value for key, value in state.items() if re.fullmatch(r'upsample\.\d+\.weight', key)]
    return 'pixelshuffle', math.prod(math.isqrt(stage.shape[0] // width) for stage in stages)


def _img_size(state: Mapping[str, Tensor], window_size: int) -> int:
    """Side of the training patches, if an attention mask tells: (windows, N, N)."""
    for key, value in state.items():
        if key.endswith('.attn_mask'):
            return math.isqrt(value.shape[0]) * window_size
    return max(_DEFAULT_SIZE, 2 * window_size)
