"""The modes in which a model can be computed."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from basicsr.archs import build_network
from torch import Tensor, nn

from compsrt_basicsr.basicsr_compat.swinir import SwinIR
from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.integer.execution import set_execution_

FP32, BF16, FAKE, INTEGER = 'fp32', 'bf16', 'fake', 'integer'
MODES = (FP32, BF16, FAKE, INTEGER)


class Autocast(nn.Module):
    """A network under bfloat16 autocast."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self.network(x)


def modes_of(model: LoadedNetwork, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the modes to measure: those asked for, or all that the model has.

    Full precision is the same architecture without quantization, with random weights: time does not depend on them.
    'integer' is left out if no layer can run on codes.

    Raises:
        CompSRTError: if a mode is unknown, or the model does not have it.
    """
    known = [FP32, BF16]
    if model.record['quant']:
        known += [FAKE, INTEGER] if _runs_on_codes(model) else [FAKE]
    for mode in asked:
        if mode not in MODES:
            raise CompSRTError(f'`--mode` takes {", ".join(MODES)}, got {mode!r}.{suggestion(mode, MODES)}')
        if mode not in known:
            raise CompSRTError(f'`{model.source}` cannot be computed as `{mode}`; it has {", ".join(known)}.')
    return tuple(mode for mode in known if not asked or mode in asked)


def in_mode(model: LoadedNetwork, mode: str) -> nn.Module:
    """Returns a network that computes a model in a mode, on the CPU, in eval mode and without gradients."""
    if mode in (FP32, BF16):
        network = full_precision_network(model)
        return Autocast(network) if mode == BF16 else network
    network = copy.deepcopy(model.network)
    set_execution_(network, mode)
    return network


def full_precision_network(model: LoadedNetwork) -> nn.Module:
    """Returns the architecture of a model without quantization; a copy of the network if it has none."""
    if not model.record['quant']:
        return copy.deepcopy(model.network)
    arguments = model.record['args']
    network = build_network(dict(arguments['base'])) if 'base' in arguments else SwinIR(**arguments)
    return network.eval().requires_grad_(False)


def _runs_on_codes(model: LoadedNetwork) -> bool:
    try:
        set_execution_(copy.deepcopy(model.network), INTEGER)
    except CompSRTError:
        return False
    return True
