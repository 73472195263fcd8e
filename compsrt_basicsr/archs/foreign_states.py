"""Quantized checkpoints of CompSRT's authors and of 2DQuant under the names of this package.

The authors' files are of SwinIR and of MambaIRv2-light. The attention operands of a SwinIR are `attn.mymodule_q` and
so on. A MambaIRv2-light has quantizers of such names too, which its forward pass never calls: they hold random numbers
and are left out. The projections of its scans are `selectiveScan.x_proj_weight_quant.weight_fp`, beside an unused copy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers
from compsrt_basicsr.utils.log import logger
from compsrt_basicsr.utils.text import counted

_PARTS = {
    'lower_bound': 'lower',
    'upper_bound': 'upper',
    'alpha': 'scale_offset',
    'beta_Z': 'zero_offset',
    'n_bit': None,
}
_OPERANDS = {'q': 'q_quantizer', 'k': 'k_quantizer', 'v': 'v_quantizer', 'a': 'attn_quantizer'}
_SCAN = {'x_proj_weight': 'x_proj', 'dt_projs_weight': 'dt_proj'}
_KEY = re.compile(rf'^(?P<owner>.+)\.(?P<part>{"|".join(_PARTS)})$')
_SPLIT_KEY = re.compile(r'^(?P<linear>.+\.w?qkv)\.(?P<which>[qkv])\.(?P<what>weight|bias)$')
_SCAN_KEY = re.compile(rf'^(?P<scan>.+\.selectiveScan)\.(?P<which>{"|".join(_SCAN)})(?P<quant>_quant\.weight_fp)?$')
_NEVER_CALLED = re.compile(r'(?<!\.attn)\.mymodule_\w+$')
_MASK = '.keep_mask'


def is_foreign(state: Mapping[str, Any]) -> bool:
    """Returns whether a state dict is a quantized checkpoint of the authors' code or of 2DQuant."""
    return any(key.endswith('.lower_bound') for key in state)


def has_offsets(state: Mapping[str, Any]) -> bool:
    """Returns whether a foreign state dict is of the authors' code, whose quantizers have alpha and beta."""
    return any(key.endswith('.alpha') for key in state)


def bits_of(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Returns `weight_bits` and `act_bits` of a foreign state dict.

    Raises:
        CompSRTError: if its quantizers have no bit width.
    """
    bits = {}
    for name, end in (('weight_bits', '.weight_quantizer.n_bit'), ('act_bits', '.act_quantizer.n_bit')):
        key = next((key for key in state if key.endswith(end)), None)
        if key is None:
            raise CompSRTError(
                'The quantizers of these weights have no bit width (`n_bit`): the checkpoint is incomplete.'
            )
        bits[name] = round(_number(state, key))
    return bits


def with_own_names(state: Mapping[str, Any], network: nn.Module, config: QuantConfig) -> dict[str, Any]:
    """Gives the tensors of a foreign state dict the names that they have in a quantized network.

    Args:
        state: a foreign state dict.
        network: the network that will load it.
        config: its quantization; must be that of the published formula.

    Raises:
        CompSRTError: if the quantizations differ, or the state dict is damaged.
    """
    _check_quantization(state, config)
    result: dict[str, Any] = {}
    unused: set[str] = set()
    found = quantizers(network)
    for key, value in state.items():
        if match := _KEY.match(key):
            owner, part = _quantizer_name(match['owner']), _PARTS[match['part']]
            if _NEVER_CALLED.search(match['owner']):
                unused.add(match['owner'])
            elif part is None:
                _check_bits(owner, _number(state, key), found.get(owner))
            else:
                result[f'{owner}.{part}'] = torch.tensor(_number(state, key))
        elif match := _SPLIT_KEY.match(key):
            result[f'{match["linear"]}.{match["what"]}'] = _joined(state, match)
        elif (match := _SCAN_KEY.match(key)) and isinstance(value, Tensor):
            name = f'{match["scan"]}.{_SCAN[match["which"]]}.weight'
            if match['quant'] or name not in result:  # the other one is a copy in full precision
                result[name] = value.squeeze(0) if value.ndim == 3 else value
        else:
            result[key] = value
    if unused:
        logger.info(
            f'Left out {counted(len(unused), "quantizer")} `mymodule_*` of the checkpoint: the network of its authors '
            'has them, and never calls them.'
        )
    for name in found:
        if f'{name}.lower' in result:
            for part in ('scale_offset', 'zero_offset'):
                result.setdefault(f'{name}.{part}', torch.zeros(()))
            result[f'{name}.unit'], result[f'{name}.calibrated'] = torch.ones(()), torch.tensor(True)
    for name, buffer in network.named_buffers():
        if name.endswith(_MASK):  # theirs is drawn at every forward pass
            result[name] = torch.ones_like(buffer)
    return result


def _check_quantization(state: Mapping[str, Any], config: QuantConfig) -> None:
    offsets = has_offsets(state)
    wanted = 'padded' if offsets else 'none'
    origin = "a checkpoint of CompSRT's authors" if offsets else 'a 2DQuant checkpoint'
    if config.code_range != 'paper' or config.transform != wanted:
        raise CompSRTError(
            f'This is {origin}: its codes are not clamped; set `quant.code_range: paper` and '
            f'`quant.transform: {wanted}` to run it.'
        )


def _quantizer_name(owner: str) -> str:
    """Turns `attn.mymodule_q` into `attn.q_quantizer`, `x_proj_weight_quant` into `x_proj`; others keep their name."""
    head, _, last = owner.rpartition('.')
    if match := _SCAN_KEY.match(head.removesuffix('_quant')):
        return f'{match["scan"]}.{_SCAN[match["which"]]}.{last}'
    operand = last.removeprefix('mymodule_')
    return f'{head}.{_OPERANDS[operand]}' if last != operand and operand in _OPERANDS else owner


def _number(state: Mapping[str, Any], key: str) -> float:
    value = state[key]
    if not isinstance(value, Tensor) or value.numel() != 1 or not math.isfinite(value):
        raise CompSRTError(f'`{key}` of the checkpoint is not one finite number: the file is damaged.')
    return float(value)


def _joined(state: Mapping[str, Any], match: re.Match[str]) -> Tensor:
    """Returns the weight or bias of q, k and v, one below the other."""
    names = [f'{match["linear"]}.{part}.{match["what"]}' for part in 'qkv']
    if missing := [name for name in names if not isinstance(state.get(name), Tensor)]:
        raise _incomplete(missing[0])
    if len({state[name].shape for name in names}) > 1 or not state[names[0]].ndim:
        raise CompSRTError(f'`{names[0]}` and those of k and v have no common shape: the file is damaged.')
    return torch.cat([state[name] for name in names])


def check_quantizers(state: Mapping[str, Any], network: nn.Module) -> None:
    """Checks that a state dict from `with_own_names` has the bounds of each quantizer of a network, and no others.

    Raises:
        CompSRTError: if a bound is missing, or the checkpoint was quantized elsewhere.
    """
    found = quantizers(network)
    bounded = {key.rpartition('.')[0] for key in state if re.search(r'_quantizer\.(lower|upper)$', key)}
    for name in (name for name in found if name in bounded):
        for own, theirs in (('lower', 'lower_bound'), ('upper', 'upper_bound')):
            if f'{name}.{own}' not in state:
                raise _incomplete(f'{name}.{theirs}')
    places = ('checkpoint', 'network')
    for names, (place, other) in ((bounded - found.keys(), places), (found.keys() - bounded, places[::-1])):
        if names:
            raise CompSRTError(
                f'The {other} lacks {counted(len(names), "quantizer")} of the {place}, such as `{min(names)}`: make '
                '`include`, `exclude`, `layers` and `split` of `quant` fit the checkpoint, unless it is incomplete.'
            )


def _incomplete(name: str) -> CompSRTError:
    return CompSRTError(f'`{name}` is missing: the checkpoint is incomplete.')


def _check_bits(name: str, bits: float, quantizer: Quantizer | None) -> None:
    if quantizer is not None and round(bits) != quantizer.bits:
        raise CompSRTError(
            f'Quantizer `{name}` has {round(bits)} bits in the checkpoint, {quantizer.bits} in the options: '
            'set `quant.weight_bits` and `quant.act_bits` to match.'
        )
