"""What a run asks of the machine's GPUs, and of its processes on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from compsrt_basicsr.errors import CompSRTError


def require_one_process_per_gpu(opt: Mapping[str, Any]) -> None:
    """Refuses several GPUs in one process, whose random generators no checkpoint holds.

    Args:
        opt: the options of a training, with `num_gpu` as a number.

    Raises:
        CompSRTError: if one process has several GPUs. The message gives the command for one process each.
    """
    if not opt['dist'] and opt['num_gpu'] > 1:
        raise CompSRTError(
            f'{opt["num_gpu"]} GPUs need one process each: torchrun --nproc_per_node={opt["num_gpu"]} '
            '-m compsrt_basicsr train -opt FILE --launcher pytorch; or set `num_gpu: 1`.'
        )


def take_from_first(module: nn.Module, opt: Mapping[str, Any]) -> None:
    """Gives all processes the state of rank 0: they computed it from the same data, but may have rounded differently.

    Args:
        module: a network or a part of one, not wrapped for distributed training; changed in place.
        opt: the options of the run.
    """
    if opt['dist']:
        for tensor in module.state_dict().values():
            torch.distributed.broadcast(tensor, 0)
