"""The selective scan by the CUDA kernel of the package mamba_ssm, where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from torch import Tensor

from compsrt_basicsr.errors import first_line
from compsrt_basicsr.utils.log import logger
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

_MODULE = 'mamba_ssm.ops.selective_scan_interface'
_PARAMETERS = ('u', 'delta', 'A', 'B', 'C', 'D', 'z', 'delta_bias', 'delta_softplus')


@lru_cache(maxsize=1)
def mamba_ssm_scan() -> Callable[..., Tensor] | None:
    """Returns a function like `scan_reference` that calls mamba_ssm, or None if that is not installed.

    A version whose function cannot be imported or takes other arguments is not used, with a warning.
    """
    try:
        if importlib.util.find_spec('mamba_ssm') is None:
            return None
        function = importlib.import_module(_MODULE).selective_scan_fn
        parameters = inspect.signature(function).parameters
        reason = next((f'it takes no `{name}`' for name in _PARAMETERS if name not in parameters), '')
    except Exception as error:  # of any kind: its compiled part may not fit this torch or this GPU
        if is_out_of_memory(error):
            raise
        reason = first_line(error)
    if reason:
        logger.warning(
            f'The installed mamba_ssm does not fit ({reason}): the selective scan runs in torch instead, which is '
            'slower; install mamba_ssm 1.2 or later, built for this torch.'
        )
        return None
    return lambda *arguments: _call(function, *arguments)


def _call(
    function: Any, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, bias: Tensor
) -> Tensor:
    """Calls mamba_ssm, which takes (B, D, L) and groups of channels, (B, groups, S, L)."""
    u, delta, b, c = (x.transpose(1, 2).contiguous() for x in (u, delta, b, c))
    result: Tensor = function(
        u, delta, a.contiguous(), b[:, None], c[:, None], skip, z=None, delta_bias=bias, delta_softplus=True
    )
    return result.transpose(1, 2)
