"""Tensors that follow from a few numbers and a device, such as masks: made once, then kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from torch import Tensor

_P = ParamSpec('_P')


def made_once(count: int) -> Callable[[Callable[_P, Tensor]], Callable[_P, Tensor]]:
    """Decorates a function that makes a tensor from hashable arguments: it is called once for equal arguments.

    The tensors are shared, so nobody may change them. They are no part of a network and of no state dict. While a
    network is compiled, traced or run on fake tensors, each call makes its own.

    Args:
        count: how many tensors are kept; the one that was used longest ago goes first.
    """

    def decorate(make: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
        def real(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
            import torch

            with torch.inference_mode(False):  # a training may use it later
                return make(*args, **kwargs)

        kept = lru_cache(maxsize=count)(real)

        @wraps(make)
        def get(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
            import torch
            from torch.utils._python_dispatch import is_in_torch_dispatch_mode

            if torch.compiler.is_compiling() or torch.jit.is_tracing() or is_in_torch_dispatch_mode():  # type: ignore[attr-defined]
                return make(*args, **kwargs)
            return kept(*args, **kwargs)  # type: ignore[arg-type]

        return get

    return decorate
