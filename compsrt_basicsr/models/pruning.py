"""Pruning during a training: the schedule of the masks, and the report of the sparsity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basicsr.utils import get_root_logger
from torch import nn

from compsrt_basicsr.config.pruning import PruneSchedule
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.pruning import copy_masks_, prune_, pruned_layers
from compsrt_basicsr.quant.sparsity import measure_sparsity, summarize_sparsity


def schedule_of(train: Mapping[str, Any], network: nn.Module) -> PruneSchedule | None:
    """Returns the schedule of `train.prune_schedule`, or None where masks are set once, before training.

    Raises:
        CompSRTError: if the schedule is wrong or does not fit the run.
    """
    if train.get('prune_schedule') is None:
        return None
    schedule = PruneSchedule.from_opt(train['prune_schedule'])
    layers = list(pruned_layers(network).values())
    try:
        schedule.check(layers[0].config if layers else QuantConfig(), train['total_iter'])
    except CompSRTError as error:
        raise CompSRTError(f'`train.prune_schedule`: {error}') from error
    return schedule


def prune_on_schedule(
    schedule: PruneSchedule | None, iteration: int, network: nn.Module, average: nn.Module | None
) -> None:
    """Sets new masks from the present weights, in place, at the iterations of a schedule.

    Args:
        schedule: the schedule; None changes nothing.
        iteration: the current iteration.
        network: the network that trains.
        average: its averaged network, which gets the same masks; None for none.
    """
    if schedule is None or not schedule.due(iteration):
        return
    target = next(iter(pruned_layers(network).values())).config.prune_ratio
    prune_(network, schedule.ratio(target, iteration))
    if average is not None:
        copy_masks_(network, average)


def pruned_share(network: nn.Module) -> dict[str, float]:
    """Returns the present `sparsity`, in [0, 1], for the training log; empty for a network that is not pruned."""
    totals = summarize_sparsity(measure_sparsity(network))
    return {key: totals[key] for key in ('sparsity',) if key in totals}


def report_sparsity(network: nn.Module) -> dict[str, float]:
    """Logs and returns the totals of `summarize_sparsity`; empty for a network that is not pruned."""
    tensors = measure_sparsity(network)
    if not tensors:
        return {}
    totals = summarize_sparsity(tensors)
    get_root_logger().info(
        f'Pruned {sum(t.pruned for t in tensors):,} of {sum(t.size for t in tensors):,} weights: '
        f'{totals["sparsity"]:.2%}, asked {tensors[0].asked:.2%}; with those that round to zero {totals["zeros"]:.2%}. '
        f'Bits per weight: {totals["bits_paper"]:.2f} by the paper, {totals["bits_mask"]:.2f} as measured, '
        f'{totals["bits_entropy"]:.2f} entropy of the codes.'
    )
    return totals
