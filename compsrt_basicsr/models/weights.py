"""Loading weight files into the networks of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basicsr.utils import get_root_logger
from torch import nn

from compsrt_basicsr.archs.spandrel_arch import SpandrelNetwork, with_prefix
from compsrt_basicsr.archs.state_dicts import check_fit, load_state, recomputable_buffers, without_recomputable_buffers
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory
from compsrt_basicsr.utils.weight_names import origin_of


def load_weights(network: nn.Module, path: str, strict: bool, param_key: str | None, skip_misfits: bool) -> None:
    """Loads a `.pth`, a `.safetensors`, either also packed, or a `zoo://` model into a network.

    Args:
        network: the network, not wrapped for distributed training.
        path: file or name.
        strict: whether file and network must have the same weights.
        param_key: entry of a `.pth` that holds the weights; None for the file itself.
        skip_misfits: whether a load that is not strict skips weights of another shape, with a warning.

    Raises:
        CompSRTError: if the file is missing, damaged, or does not fit the network.
    """
    state = without_recomputable_buffers(read_state(path, param_key))
    if isinstance(network, SpandrelNetwork):
        state = with_prefix(state)
    logger = get_root_logger()
    logger.info(f'Loading {type(network).__name__} from {path} [{param_key}].')
    if skip_misfits and not strict:
        own = network.state_dict()
        misfits = [key for key, value in state.items() if key in own and own[key].shape != value.shape]
        for key in misfits:
            theirs, ours = tuple(state.pop(key).shape), tuple(own[key].shape)
            logger.warning(f'{path}: skipped `{key}`, whose shape is {theirs}; the network has {ours}.')
    if not strict and not state.keys() & network.state_dict().keys():
        raise CompSRTError(
            f'`{path}` has none of the weights of {type(network).__name__}. {origin_of(state)} Give a checkpoint of '
            'this architecture.'
        )
    try:
        load_state(network, {**recomputable_buffers(network), **state} if strict else state, strict)
    except (RuntimeError, CompSRTError) as error:
        if is_out_of_memory(error):
            raise
        state = {**recomputable_buffers(network), **state}
        raise CompSRTError(f'{path}: {misfit(error, state if strict else None, network)}') from error


def misfit(error: Exception, state: Mapping[str, Any] | None, network: nn.Module) -> str:
    """Returns the sentence that says why a load failed, in place of torch's list of all weights.

    Args:
        error: what the load raised.
        state: the weights, if all of them have to fit.
        network: what they were loaded into.
    """
    try:
        if state is not None and isinstance(error, RuntimeError):
            check_fit(state, network)
    except CompSRTError as found:
        error = found
    return str(error).splitlines()[-1].strip()
