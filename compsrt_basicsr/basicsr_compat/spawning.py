"""Data sets in spawned workers: such a process starts from nothing, and cannot import BasicSR unaided."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any


def make_portable(dataset: Any) -> None:
    """Makes data sets of this type bring this package along, before BasicSR, when sent to another process.

    Plain pickles are as they were.

    Args:
        dataset: Any data set of the type.
    """
    ForkingPickler.register(type(dataset), _reduce)


def _reduce(obj: Any) -> tuple[Any, ...]:
    """Returns the usual recipe, called through a function of this package: unpickling imports that first."""
    function, arguments, *rest = obj.__reduce_ex__(4)
    return (_call, (function, *arguments), *rest)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)
