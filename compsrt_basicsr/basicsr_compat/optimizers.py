"""Optimizers other than Adam, with their arguments checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from compsrt_basicsr.config.check_registries import known_optimizers
from compsrt_basicsr.errors import CompSRTError, suggestion


def get_optimizer(
    original: Callable[..., torch.optim.Optimizer], model: Any, optim_type: str, params: Any, lr: float, **kwargs: Any
) -> torch.optim.Optimizer:
    """Builds an optimizer of `torch.optim` by its name; BasicSR 1.4.2 knows only Adam.

    Args:
        original: `BaseModel.get_optimizer`, which builds Adam.
        model: The BasicSR model.
        optim_type: Name of the class, such as 'AdamW'.
        params: Parameters or parameter groups.
        lr: Learning rate.
        kwargs: The optimizer's further arguments.

    Raises:
        CompSRTError: If `torch.optim` does not know the name or an argument, or refuses a value.
    """
    optimizers = known_optimizers()
    if optim_type not in optimizers:
        raise CompSRTError(
            f'`{optim_type}` is no optimizer of torch.optim that works here: '
            f'use one such as Adam, AdamW or SGD.{suggestion(optim_type, optimizers)}'
        )
    allowed = [name for name in inspect.signature(optimizers[optim_type]).parameters if name != 'params']
    for name in kwargs:
        if name not in allowed:
            raise CompSRTError(
                f'The optimizer {optim_type} has no argument `{name}`: '
                f'it takes {", ".join(allowed)}.{suggestion(name, allowed)}'
            )
    try:
        if optim_type == 'Adam':
            return original(model, optim_type, params, lr, **kwargs)
        return optimizers[optim_type](params, **{'lr': lr, **kwargs})
    except (TypeError, ValueError) as error:
        raise CompSRTError(f'The optimizer {optim_type} refuses its arguments: {error}.') from error
