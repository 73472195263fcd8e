"""Which layers add to a running sum of the network: a residual stream.

An error in the stream stays in it, unless the next layer that adds to it takes it back. An adapter of a backbone says
where the streams are, by registering a function for the type of its block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Stream:
    """A layer whose output is added to the stream.

    Attributes:
        layer: a linear or a convolution.
        at: the module whose arguments hold the stream before that sum.
        arrange: from the arguments of `at` to the stream as (..., C), in the order of the layer's tokens or pixels.
    """

    layer: nn.Module
    at: nn.Module
    arrange: Callable[..., Tensor]


_FINDERS: dict[type[nn.Module], Callable[[Any], list[Stream]]] = {}


def has_streams(*module_types: type[nn.Module]) -> Callable:
    """Decorator: registers a function that lists the streams of a module of these types."""

    def register(finder: Callable[[Any], list[Stream]]) -> Callable[[Any], list[Stream]]:
        _FINDERS.update(dict.fromkeys(module_types, finder))
        return finder

    return register


def streams_of(network: nn.Module) -> list[Stream]:
    """The known streams of a network, in definition order; none for a backbone without an adapter."""
    found = ((module, _FINDERS.get(type(module))) for module in network.modules())
    return [stream for module, finder in found if finder is not None for stream in finder(module)]
