"""What a run asks of the machine's GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
