"""The full-precision network that a run learns from, and the student's start from its weights."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from basicsr.archs import build_network
from torch import nn

from compsrt_basicsr.archs.compsrt_net_arch import prepare_
from compsrt_basicsr.archs.state_dicts import recomputable_buffers, without_recomputable_buffers
from compsrt_basicsr.basicsr_compat.swinir import SwinIR
from compsrt_basicsr.config.networks import has_own_weights
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.models.weights import load_weights, misfit
from compsrt_basicsr.quant.record import QuantRecord, decode_record
from compsrt_basicsr.quant.structure import Structure
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory


def build_teacher(opt: Mapping[str, Any], device: torch.device) -> nn.Module:
    """Builds `network_t` with the weights of `path.pretrain_network_t`, in eval mode and frozen.

    A network of `type: spandrel` has its weights from its own `checkpoint`, and needs no `path.pretrain_network_t`.
    With `path.strict_load_t: false`, weights that do not fit are skipped.

    Args:
        opt: the options of the run.
        device: where to put the network.

    Raises:
        CompSRTError: if the options name no teacher, or its weights do not fit it.
    """
    path = opt['path'].get('pretrain_network_t')
    own = opt.get('network_t') is not None and has_own_weights(opt['network_t'])
    if opt.get('network_t') is None or (path is None and not own):
        raise CompSRTError('CompSRTModel learns from a teacher: give `network_t` and `path.pretrain_network_t`.')
    teacher = build_network(opt['network_t']).to(device)
    if path is None:
        return teacher.eval().requires_grad_(False)
    strict = opt['path'].get('strict_load_t', True)
    load_weights(teacher, path, strict, opt['path'].get('param_key_t', 'params'), skip_misfits=True)
    return teacher.eval().requires_grad_(False)


def start_from_teacher(student: nn.Module, teacher: nn.Module) -> None:
    """Gives the student the teacher's weights, in place; those of batch norms that it has folded, folded.

    Raises:
        CompSRTError: if they do not fit the student.
    """
    state = None
    try:
        weights = without_recomputable_buffers(_prepared(teacher, student).state_dict())
        state = {**recomputable_buffers(student), **weights}
        student.load_state_dict(state)
    except (RuntimeError, CompSRTError) as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError(
            f'`network_g` cannot start from the weights of `network_t`: {misfit(error, state, student)} '
            'Give both the same arguments, or give `path.pretrain_network_g`.'
        ) from error


def _prepared(teacher: nn.Module, student: nn.Module) -> nn.Module:
    """Returns the teacher with the layers that the student had before they were quantized."""
    record = student.get_submodule('quant_record')
    if isinstance(student, SwinIR) or not isinstance(record, QuantRecord):
        return teacher
    structure = decode_record(record.json)['args'].get('structure')
    copied = deepcopy(teacher)
    prepare_(copied, record.config, Structure.from_json(structure) if structure else None)
    return copied
