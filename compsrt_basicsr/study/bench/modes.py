"""The modes in which a model can be computed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from basicsr.archs import build_network
from torch import Tensor, nn

from compsrt_basicsr.basicsr_compat.swinir import SwinIR
from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.integer.execution import set_execution_
from compsrt_basicsr.study.bench.rivals import RIVALS, check_packages, rival, rivals_of

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


def modes_of(model: LoadedNetwork, asked: Sequence[str] = (), rivals: bool = False) -> tuple[str, ...]:
    """Returns the modes to measure: those asked for, or all that the model has; with `rivals`, all rivals too.

    Full precision is the same architecture without quantization, with random weights: time does not depend on them.
    'integer' is left out if no layer can run on codes.

    Raises:
        CompSRTError: if a mode is unknown, the model does not have it, or a package is missing for it.
    """
    known = [FP32, BF16]
    if model.record['quant']:
        known += [FAKE, INTEGER] if _runs_on_codes(model) else [FAKE]
    engines = rivals_of(model)
    everything = (*MODES, *RIVALS)
    for mode in asked:
        if mode not in everything:
            raise CompSRTError(f'`--mode` takes {", ".join(everything)}, got {mode!r}.{suggestion(mode, everything)}')
        if mode not in (*known, *engines):
            has = ', '.join((*known, *engines))
            raise CompSRTError(f'`{model.source}` cannot be computed as `{mode}` here; it has {has}.')
    chosen = [mode for mode in known if not asked or mode in asked]
    chosen += [mode for mode in engines if rivals or mode in asked]
    check_packages(chosen)
    return tuple(chosen)


def in_mode(model: LoadedNetwork, mode: str, folder: Path) -> nn.Module:
    """Returns a network that computes a model in a mode, in eval mode and without gradients.

    Args:
        model: the model, on the CPU.
        mode: from `MODES` or `RIVALS`.
        folder: keeps the files of engines, which are made once.

    Raises:
        CompSRTError: if a rival cannot run the network.
    """
    if mode in RIVALS:
        return rival(in_full_precision(model), mode, folder)
    return own_mode(model, mode)


def own_mode(model: LoadedNetwork, mode: str) -> nn.Module:
    """Returns a network that computes a model in one of `MODES`, as `in_mode` does."""
    if mode in (FP32, BF16):
        network = full_precision_network(model)
        return Autocast(network) if mode == BF16 else network
    network = copy.deepcopy(model.network)
    set_execution_(network, mode)
    return network


def in_full_precision(model: LoadedNetwork) -> LoadedNetwork:
    """Returns the architecture of a model without quantization, as if it had been loaded."""
    return replace(model, network=full_precision_network(model), record={**model.record, 'quant': None})


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
