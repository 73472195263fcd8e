"""The arguments of a MambaIRv2-light, read from the shapes of its weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compsrt_basicsr.archs.mambairv2_scan import rank_of
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.weight_names import architecture_of

_GROUP = re.compile(r'^layers\.(\d+)\.conv\.weight$')
_LAYER = 'layers.{}.residual_group.layers.{}.'
_FIRST = _LAYER.format(0, 0)


def is_mambairv2_light(state: Mapping[str, Any]) -> bool:
    """Returns whether a state dict has the names of a MambaIRv2-light, full-precision or quantized by its authors."""
    named = {'conv_first.weight', 'upsample.0.weight', f'{_FIRST}assm.selectiveScan.A_logs'} <= state.keys()
    return named and architecture_of(state) == 'MambaIRv2-light'


def mambairv2_light_arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Returns the arguments that build the network of a state dict.

    Raises:
        CompSRTError: if the weights are those of no such network.
    """
    try:
        return _arguments(state)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CompSRTError(f'The weights are no MambaIRv2-light that is known here ({error} does not fit).') from error


def _arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    embed_dim, in_chans = state['conv_first.weight'].shape[:2]
    groups = sorted(int(match[1]) for key in state if (match := _GROUP.match(key)))
    if groups != list(range(len(groups))):
        raise ValueError('the numbering of the groups')
    table = f'{_FIRST}win_mhsa.relative_position_bias_table'
    steps, prompts = state[f'{_FIRST}assm.selectiveScan.dt_projs_weight'], state[f'{_FIRST}assm.embeddingB.weight']
    hidden, rank = steps.shape[-2:]
    if rank != rank_of(hidden):
        raise ValueError(f'dt_projs_weight of rank {rank}')
    ratio = hidden / embed_dim
    return {
        'upscale': _root(state['upsample.0.weight'].shape[0] / in_chans, 'upsample.0.weight'),
        'in_chans': in_chans,
        'embed_dim': embed_dim,
        'd_state': state[f'{_FIRST}assm.selectiveScan.A_logs'].shape[1],
        'depths': [_depth(state, group) for group in groups],
        'num_heads': [state[table.replace(_FIRST, _LAYER.format(group, 0))].shape[1] for group in groups],
        'window_size': (_root(state[table].shape[0], 'relative_position_bias_table') + 1) // 2,
        'inner_rank': prompts.shape[1],
        'num_tokens': prompts.shape[0],
        'mlp_ratio': ratio if int(embed_dim * ratio) == hidden else (hidden + 0.5) / embed_dim,
        'qkv_bias': any(f'{_FIRST}{name}' in state for name in ('wqkv.bias', 'wqkv.q.bias')),
        'patch_norm': 'patch_embed.norm.weight' in state,
    }


def _depth(state: Mapping[str, Tensor], group: int) -> int:
    depth = 0
    while f'{_LAYER.format(group, depth)}scale1' in state:
        depth += 1
    return depth


def _root(number: float, name: str) -> int:
    root = round(math.sqrt(number))
    if root * root != number:
        raise ValueError(name)
    return root
