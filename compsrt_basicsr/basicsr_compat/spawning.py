"""Data sets in spawned workers: such a process starts from nothing, and cannot import BasicSR unaided."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

from compsrt_basicsr.basicsr_compat import patches


def make_portable(dataset: Any) -> None:
    """Makes data sets of this type import BasicSR with its patches when they are sent to another process.

    Plain pickles are as they were.

    Args:
        dataset: Any data set of the type.
    """
    ForkingPickler.register(type(dataset), _reduce)


def _reduce(obj: Any) -> tuple[Any, ...]:
    """Returns the usual recipe, called through a function of this package.

    `_Patches` comes before all that BasicSR defines, and is unpickled first.
    """
    function, arguments, *rest = obj.__reduce_ex__(4)
    return (_call, (_Patches(), function, *arguments), *rest)


class _Patches:
    """Becomes patches of BasicSR when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return patches.import_basicsr, ()


def _call(_: None, function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)
