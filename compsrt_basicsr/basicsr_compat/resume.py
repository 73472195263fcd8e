"""Resuming: finds the newest intact state in the run's own folder, on any device."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from os import path as osp
from typing import Any

from compsrt_basicsr.config.is_compsrt_run import is_ours
from compsrt_basicsr.config.resume_rules import check_resumed
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.log import logger
from compsrt_basicsr.utils.torch_io import read_checkpoint


def load_resume_state(opt: MutableMapping[str, Any]) -> dict[str, Any] | None:
    """Loads the training state to resume from; replaces BasicSR's function, which needs CUDA.

    Sets `path.resume_state`, the networks' `pretrain_network_*` and, as plain integers, `resume_from`.

    Args:
        opt: The parsed options, changed in place.

    Returns:
        The state, its tensors on the CPU, from where optimizers move them; None to start from the beginning.

    Raises:
        CompSRTError: If the state of `path.resume_state` or one of its networks is missing or damaged, or an option
            has changed that must stay.
    """
    _keep_teacher_out(opt)
    found = _newest_intact_state(opt) if opt['auto_resume'] else None
    if found is None and opt['path'].get('resume_state'):
        named = opt['path']['resume_state']
        found = named, _read_state(named, opt)
    if found is None:
        return None
    opt['path']['resume_state'], state = found
    if is_ours(opt):
        check_resumed((state.get('compsrt') or {}).get('options'), opt, int(state['iter']))
    _point_at_networks(opt, state['iter'])
    opt['resume_from'] = {'epoch': int(state['epoch']), 'iter': int(state['iter'])}
    return state


def _keep_teacher_out(opt: MutableMapping[str, Any]) -> None:
    """Excludes the teacher, which is never saved with the run, from the networks to resume."""
    if opt.get('network_t') is None:
        return
    ignored = opt['path'].get('ignore_resume_networks') or []
    ignored = [ignored] if isinstance(ignored, str) else list(ignored)
    if 'network_t' not in ignored:
        ignored.append('network_t')
    opt['path']['ignore_resume_networks'] = ignored


def _newest_intact_state(opt: MutableMapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Returns the path of the newest state that can be read together with its networks, and the state."""
    folder = opt['path']['training_states']
    names = os.listdir(folder) if osp.isdir(folder) else []
    iterations = sorted((int(stem) for stem in map(_iteration, names) if stem), reverse=True)
    for iteration in iterations:
        path = osp.join(folder, f'{iteration}.state')
        try:
            return path, _read_state(path, opt)
        except CompSRTError as error:
            logger.warning('Resuming skips iteration %d: %s', iteration, error)
    if iterations:
        logger.warning('No saved state in %s can be read: the run starts from the beginning.', folder)
    return None


def _iteration(name: str) -> str | None:
    """Returns the digits of `123.state`, or None for any other name."""
    stem, extension = osp.splitext(name)
    return stem if extension == '.state' and stem.isdecimal() else None


def _read_state(path: str, opt: MutableMapping[str, Any]) -> dict[str, Any]:
    """Reads a state and checks that the networks saved with it can be read."""
    state = read_checkpoint(path)
    missing = [key for key in ('epoch', 'iter', 'optimizers', 'schedulers') if key not in state]
    if missing:
        raise CompSRTError(f'`{path}` is no training state, it has no `{missing[0]}`: give a `.state` file.')
    for network in _resumed_networks(opt):
        network_path = _network_path(opt, network, state['iter'])
        try:
            read_checkpoint(network_path)
        except CompSRTError as error:
            raise CompSRTError(f'The state `{path}` needs a network that cannot be read. {error}') from error
    return state


def _resumed_networks(opt: MutableMapping[str, Any]) -> list[str]:
    ignored = opt['path'].get('ignore_resume_networks') or ()
    return [key for key in opt if str(key).startswith('network_') and key not in ignored]


def _network_path(opt: MutableMapping[str, Any], network: str, iteration: int) -> str:
    return osp.join(opt['path']['models'], f'net_{network.removeprefix("network_")}_{iteration}.pth')


def _point_at_networks(opt: MutableMapping[str, Any], iteration: int) -> None:
    """Lets BasicSR set the paths of the networks, and keeps `param_key_*` of those that are not resumed."""
    from basicsr.utils import check_resume

    path = opt['path']
    ignored = path.get('ignore_resume_networks') or ()
    keys = [f'param_key_{network.removeprefix("network_")}' for network in ignored]
    kept = {key: path[key] for key in keys if key in path}
    check_resume(opt, iteration)
    path.update(kept)
