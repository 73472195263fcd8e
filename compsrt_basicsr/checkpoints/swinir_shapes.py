"""The arguments of a SwinIR, read from the shapes of its weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.weight_names import architecture_of

IMG_SIZE = 64  # of the published networks, for checkpoints without attention masks
_BLOCK = re.compile(r'^layers\.(\d+)\.residual_group\.blocks\.(\d+)\.norm1\.weight$')
_GROUP = 'layers.{}.residual_group.blocks.0.'


def is_swinir(state: Mapping[str, Any]) -> bool:
    """Returns whether a state dict has the names of a SwinIR, full-precision or quantized."""
    named = {'conv_first.weight', _GROUP.format(0) + 'attn.relative_position_bias_table'} <= state.keys()
    return named and architecture_of(state) == 'SwinIR'  # HAT has these names too


def swinir_arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Returns the arguments that build the SwinIR of a state dict; attention masks in it give the img_size.

    Arguments that do not show in the shapes get the values of the published networks: `img_range` is 255 for window 7
    without upsampler (the JPEG networks), 1 elsewhere.

    Args:
        state: full-precision or quantized state dict of a SwinIR.

    Raises:
        CompSRTError: if it is not a SwinIR of BasicSR.
    """
    if not is_swinir(state):
        raise CompSRTError(
            'The weights are not a SwinIR: `conv_first` or the position bias of the first block is missing.'
        )
    try:
        return _arguments(state)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CompSRTError(f'The weights are not a SwinIR that BasicSR knows ({error} does not fit).') from error


def _arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    embed_dim, in_chans = state['conv_first.weight'].shape[:2]
    depths = _depths(state)
    tables = [state[_GROUP.format(i) + 'attn.relative_position_bias_table'] for i in range(len(depths))]
    window_size = (_root(tables[0].shape[0], 'relative_position_bias_table') + 1) // 2
    hidden = state[_GROUP.format(0) + 'mlp.fc1.weight'].shape[0]
    ratio = hidden / embed_dim
    upsampler = _upsampler(state)
    return {
        'upscale': _scale(state, upsampler, in_chans),
        'in_chans': in_chans,
        'img_size': _img_size(state, window_size),
        'window_size': window_size,
        'img_range': 255.0 if upsampler == '' and window_size == 7 else 1.0,
        'depths': depths,
        'embed_dim': embed_dim,
        'num_heads': [table.shape[1] for table in tables],
        'mlp_ratio': ratio if int(embed_dim * ratio) == hidden else (hidden + 0.5) / embed_dim,
        'upsampler': upsampler,
        'resi_connection': '3conv' if 'conv_after_body.0.weight' in state else '1conv',
        'qkv_bias': any(_GROUP.format(0) + name in state for name in ('attn.qkv.bias', 'attn.qkv.q.bias')),
        'ape': 'absolute_pos_embed' in state,
        'patch_norm': 'patch_embed.norm.weight' in state,
    }


def _depths(state: Mapping[str, Tensor]) -> list[int]:
    """Returns the number of blocks of each group."""
    found = [(int(match[1]), int(match[2])) for key in state if (match := _BLOCK.match(key))]
    groups = 1 + max(group for group, _ in found)
    if groups > len(found):
        raise ValueError('the numbering of the groups')
    return [sum(group == i for group, _ in found) for i in range(groups)]


def _upsampler(state: Mapping[str, Tensor]) -> str:
    if 'conv_up1.weight' in state:
        return 'nearest+conv'
    if 'upsample.0.weight' in state:
        return 'pixelshuffle' if 'conv_before_upsample.0.weight' in state else 'pixelshuffledirect'
    return ''


def _scale(state: Mapping[str, Tensor], upsampler: str, in_chans: int) -> int:
    if upsampler == 'nearest+conv':
        return 4 if 'conv_up2.weight' in state else 2
    if upsampler == 'pixelshuffledirect':
        return _root(state['upsample.0.weight'].shape[0] / in_chans, 'upsample.0.weight')
    if upsampler == 'pixelshuffle':
        steps = [value for key, value in state.items() if re.match(r'^upsample\.\d+\.weight$', key)]
        return math.prod(_root(step.shape[0] / step.shape[1], 'upsample') for step in steps)
    return 1


def _img_size(state: Mapping[str, Tensor], window_size: int) -> int:
    """Returns the side of the images that the network was made for: the masks have a row for each of its windows."""
    if 'absolute_pos_embed' in state:
        return _root(state['absolute_pos_embed'].shape[1], 'absolute_pos_embed')
    masks = (value for key, value in state.items() if key.endswith('.attn_mask'))
    if (mask := next(masks, None)) is not None:
        return _root(mask.shape[0], 'attn_mask') * window_size
    return max(IMG_SIZE // window_size, 2) * window_size


def _root(number: float, name: str) -> int:
    root = round(math.sqrt(number))
    if root * root != number:
        raise ValueError(name)
    return root
