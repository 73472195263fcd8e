"""Data sets in spawned workers, which cannot import BasicSR without this package."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any


def make_portable(dataset: Any) -> None:
    """Makes a process that receives a data set of this type import this package before BasicSR.

    Plain pickles stay as they are.

    Args:
        dataset: Any data set of the type.
    """
    ForkingPickler.register(type(dataset), _reduce)


def _reduce(obj: Any) -> tuple[Any, ...]:
    """Returns the usual reduction, called through a function of this package, which unpickling imports first."""
    function, arguments, *rest = obj.__reduce_ex__(4)
    return (_call, (function, *arguments), *rest)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)
