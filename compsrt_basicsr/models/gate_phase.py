"""The second phase of a training with corrections: only their gates train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import nn

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.correction import corrections


class GatePhase:
    """From its first iteration on, an optimizer moves only the gates; their moments begin anew there.

    Which iterations belong to it follows from their numbers, so that a resumed run needs no further state.

    Args:
        network: the network that trains.
        first: its first iteration.
    """

    def __init__(self, network: nn.Module, first: int) -> None:
        self.first = first
        self._gates = [correction.gate for correction in corrections(network).values()]

    def restrict(self, optimizer: torch.optim.Optimizer, iteration: int) -> None:
        """Drops the gradients of all but the gates, in place, if an iteration belongs to the phase.

        Dropping them, not freezing, keeps the set of parameters that distributed training has registered.

        Args:
            optimizer: after backward, before its step.
            iteration: the current iteration.
        """
        if iteration < self.first:
            return
        if iteration == self.first:
            get_root_logger().info(f'From iteration {iteration} on, only {len(self._gates)} sets of gates train.')
            for gate in self._gates:
                optimizer.state.pop(gate, None)
        gates = {id(gate) for gate in self._gates}
        for group in optimizer.param_groups:
            for parameter in group['params']:
                if id(parameter) not in gates:
                    parameter.grad = None


def gate_phase_of(train: Mapping[str, Any], network: nn.Module) -> GatePhase | None:
    """Returns the phase of `train.gate_phase`, or None where there is none.

    Raises:
        CompSRTError: if the network has no corrections.
    """
    share = train.get('gate_phase') or 0.0
    if not share:
        return None
    if not corrections(network):
        raise CompSRTError(
            '`train.gate_phase` trains the gates of corrections, and `network_g` has none: set `quant.corrections`, '
            'for a network with quantized linears, or remove it.'
        )
    total = int(train['total_iter'])
    return GatePhase(network, total - round(share * total) + 1)
