"""State dicts adapted to a quantized network: keys of other origin, and whether the weights fit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from compsrt_basicsr.archs.foreign_states import check_quantizers, is_foreign, with_own_names
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.equalizer import Equalizer, equalizers
from compsrt_basicsr.quant.layers import QuantizedLayer, quantized_layers
from compsrt_basicsr.quant.pruning import prune_
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.record import QuantRecord
from compsrt_basicsr.utils.weight_names import architecture_of, origin_of

RECOMPUTABLE = ('attn_mask', 'relative_position_index', 'relative_position_index_SA')

_MASK = '.keep_mask'
_SHIFT = '.input_shift'
_OF_QUANTIZER = re.compile(r'_quantizer\.\w+$')


def forget_recomputable_buffers(network: nn.Module) -> None:
    """Keeps attention masks and position indices out of the state dict, and ignores those of a loaded one.

    They follow from img_size and window_size, which may differ between a checkpoint and the network.
    """
    for module in network.modules():
        module._non_persistent_buffers_set.update(set(RECOMPUTABLE) & set(module._buffers))
    network.register_load_state_dict_pre_hook(_drop_recomputable)


def _drop_recomputable(network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state if key.startswith(prefix) and key.rpartition('.')[2] in RECOMPUTABLE]:
        del state[key]


def without_recomputable_buffers(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a state dict without attention masks, position indices and DataParallel's prefix `module.`."""
    state = {key.removeprefix('module.'): value for key, value in state.items()}
    return {key: value for key, value in state.items() if key.rpartition('.')[2] not in RECOMPUTABLE}


def recomputable_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Returns a network's own attention masks and position indices, which a checkpoint need not have."""
    state = network.state_dict()
    kept = without_recomputable_buffers(state)
    return {key: value for key, value in state.items() if key not in kept}


def adapt_state_dict(
    state: Mapping[str, Any], network: nn.Module, config: QuantConfig, strict: bool = True
) -> dict[str, Any]:
    """Makes a state dict fit a quantized SwinIR or MambaIRv2-light.

    Full-precision checkpoints and our own lose only the recomputable buffers. Checkpoints of the authors' code and of
    2DQuant get our names; both need the paper range, the latter with `transform: none`.

    Args:
        state: a state dict.
        network: the quantized network that will load it.
        config: its quantization.
        strict: whether every weight must fit.

    Returns:
        A new state dict.

    Raises:
        CompSRTError: if the checkpoint is of another scale, architecture or quantization.
    """
    state = without_recomputable_buffers(state)
    if not is_foreign(state):
        if strict:
            check_fit(state, network)
        return state
    if strict and architecture_of(state) != architecture_of(network.state_dict()):
        check_fit(state, network)
    state = with_own_names(state, network, config)
    if strict:
        check_fit({key: value for key, value in state.items() if not _OF_QUANTIZER.search(key)}, network)
        check_quantizers(state, network)
    return state


def load_state(network: nn.Module, state: Mapping[str, Any], strict: bool = True) -> None:
    """Loads a state dict into a network; a foreign one gets the names of the network, and prunes it.

    Raises:
        CompSRTError: if a foreign state dict does not fit.
        RuntimeError: if another one does not fit.
    """
    record = getattr(network, 'quant_record', None)
    if not is_foreign(state) or (record is None and not strict):
        network.load_state_dict(state, strict)
        return
    if not isinstance(record, QuantRecord):
        raise CompSRTError(
            f'This is a quantized checkpoint, and {type(network).__name__} is in full precision: give it to '
            '`compsrt upscale`, or take an option file with `quant`.'
        )
    network.load_state_dict(adapt_state_dict(state, network, record.config, strict), strict)
    prune_(network)  # foreign checkpoints have no masks and need no calibration


def check_fit(state: Mapping[str, Any], network: nn.Module) -> None:
    """Checks that the weights of a state dict fit a network.

    Quantizers are left to their own loading, and masks too unless both are pruned.

    Raises:
        CompSRTError: if a weight is missing, unknown or of another shape.
    """
    owned = (*(f'{name}.' for name in quantizers(network)), 'quant_record.')
    mine = {k: v for k, v in network.state_dict().items() if not k.startswith(owned)}
    theirs = {k: v for k, v in state.items() if not k.startswith(owned) and isinstance(v, Tensor)}
    if not (_pruned(mine) and _pruned(theirs)):
        mine, theirs = ({k: v for k, v in s.items() if not k.endswith(_MASK)} for s in (mine, theirs))
    if not any(key.endswith(_SHIFT) for key in theirs):  # in full precision: the layers reset what it does not have
        owners: dict[str, QuantizedLayer | Equalizer] = {**quantized_layers(network), **equalizers(network)}
        own = {f'{name}.{part}' for name, owner in owners.items() for part in owner.own_state()}
        mine = {k: v for k, v in mine.items() if k in theirs or k not in own or k.endswith(_MASK)}
    scales = [_scale(state) for state in (theirs, mine)]
    if None not in scales and scales[0] != scales[1] and architecture_of(theirs) == architecture_of(mine):
        raise CompSRTError(
            f'The checkpoint is of another scale: x{scales[0]}, the network is x{scales[1]}; '
            'set `scale` and `upscale` to match, or give the checkpoint of this scale.'
        )
    shapes = ((k, tuple(theirs[k].shape), tuple(mine[k].shape)) for k in mine if k in theirs)
    wrong = [f'{k} is {other}, not {own}' for k, other, own in shapes if other != own]
    wrong += [f'{k} is missing' for k in mine if k not in theirs]
    wrong += [f'{k} is not in the network' for k in theirs if k not in mine]
    if wrong:
        raise CompSRTError(
            f'The checkpoint does not fit {type(network).__name__}: {wrong[0]}'
            f'{f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""}{_remedy(theirs, mine)}'
        )


def _scale(state: Mapping[str, Any]) -> int | None:
    """Returns the upscaling factor that the tail of a SwinIR or EDSR shows, or None."""
    first, tail = state.get('conv_first.weight'), state.get('upsample.0.weight')
    if first is None or tail is None or first.ndim < 2 or tail.ndim < 2:
        return None
    if 'conv_last.weight' not in state:  # one convolution makes the pixels
        return round((tail.shape[0] / max(first.shape[1], 1)) ** 0.5)
    steps = (value for key, value in state.items() if re.fullmatch(r'upsample\.\d+\.weight', key) and value.ndim > 1)
    return math.prod(round((step.shape[0] / max(step.shape[1], 1)) ** 0.5) for step in steps)


def _remedy(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """Returns the end of a sentence on weights that do not fit: other arguments, or another architecture."""
    architecture = architecture_of(mine)
    if architecture_of(theirs) == architecture and len(theirs.keys() & mine.keys()) * 2 > min(len(theirs), len(mine)):
        swinir = 'embed_dim, depths, num_heads, window_size, mlp_ratio and upsampler'
        return f'; check {swinir if architecture == "SwinIR" else "the arguments of the network"}.'
    return f'. {origin_of(theirs)[:-1]}; give a checkpoint of this architecture, or an option file of that one.'


def _pruned(state: Mapping[str, Any]) -> bool:
    return any(key.endswith(_MASK) for key in state)
