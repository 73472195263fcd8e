"""Optimizers and schedules of a resumed run: moments from its state, everything else from the options of today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from compsrt_basicsr.errors import CompSRTError

# What says how an optimizer works, in its groups; the rest are rates and the kind of implementation.
_KINDS = ('betas', 'momentum', 'alpha', 'rho', 'lr_decay', 'etas', 'momentum_decay', 'lambd', 'decoupled_weight_decay')
# What a schedule was built with.
_SCHEDULE = ('milestones', 'gamma', 'restarts', 'restart_weights', 'periods', 'eta_min', 'base_lrs')


def resume_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], order: Sequence[nn.Parameter]) -> None:
    """Loads the moments of a state into an optimizer, in place; its rates and other arguments stay those of today.

    Args:
        optimizer: of the same kind and over the same parameters, perhaps in other groups.
        saved: the state of the optimizer.
        order: the parameters in the order of the saved groups.

    Raises:
        CompSRTError: the state is of another optimizer, or of other parameters.
    """
    groups = saved['param_groups']
    theirs, ours = ({key: group[key] for key in _KINDS if key in group} for group in (groups[0], optimizer.defaults))
    if theirs.keys() - {_KINDS[-1]} != ours.keys() - {_KINDS[-1]} or (
        _KINDS[-1] in theirs and bool(theirs[_KINDS[-1]]) != bool(ours.get(_KINDS[-1]))
    ):
        raise CompSRTError(
            f'The state is not one of `{type(optimizer).__name__}`, which `train.optim_g.type` names: give the '
            'optimizer with which the run began, or begin a new run from its weights with `path.pretrain_network_g`.'
        )
    count = sum(len(group['params']) for group in groups)
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    if count != len(order) or len(order) != len(parameters):
        raise CompSRTError(
            f'The state is of a training of {count} tensors, but the options train {len(parameters)}: give the '
            '`train.trainable` and the `network_g` with which the run began, or begin a new run from its weights with '
            '`path.pretrain_network_g`.'
        )
    before = {id(parameter): place for place, parameter in enumerate(order)}
    places = {place: before[id(parameter)] for place, parameter in enumerate(parameters)}
    state = {place: saved['state'][old] for place, old in places.items() if old in saved['state']}
    optimizer.load_state_dict({'state': state, 'param_groups': optimizer.state_dict()['param_groups']})


def resume_schedule(
    scheduler: Any, saved: Mapping[str, Any], rates: Sequence[float], warmup_iter: int, warmup_changed: bool
) -> bool:
    """Puts a schedule of today, and the rates of its optimizer, where the state was; in place.

    A schedule that has not changed continues to the last bit. Another is computed anew from its first iteration, as
    BasicSR's loop does, warm-up included.

    Args:
        scheduler: one of BasicSR's, at its beginning.
        saved: its state.
        rates: the learning rates of the saved groups.
        warmup_iter: iterations of the warm-up.
        warmup_changed: whether these were others before.

    Returns:
        Whether the schedule has changed.
    """
    now = scheduler.state_dict()
    if not warmup_changed and all(_listed(now.get(key)) == _listed(saved.get(key)) for key in _SCHEDULE):
        scheduler.load_state_dict(saved)
        _set_rates(scheduler, rates)
        return False
    for epoch in range(saved['last_epoch'] + 1):
        scheduler.last_epoch = epoch
        _set_rates(scheduler, scheduler.get_lr())
        if (iteration := epoch + 1) < warmup_iter:
            initial = [group['initial_lr'] for group in scheduler.optimizer.param_groups]
            _set_rates(scheduler, [rate / warmup_iter * iteration for rate in initial])
    scheduler._step_count = saved.get('_step_count', saved['last_epoch'] + 1)
    scheduler._last_lr = [group['lr'] for group in scheduler.optimizer.param_groups]
    return True


def _set_rates(scheduler: Any, rates: Sequence[float]) -> None:
    for group, rate in zip(scheduler.optimizer.param_groups, rates):
        group['lr'] = rate


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):  # BasicSR counts milestones
        return {key: count for key, count in value.items() if count}
    return list(value) if isinstance(value, (list, tuple)) else value
