"""Residual streams: running sums of the network to which layers add their outputs.

A quantization error stays in the stream unless the next layer that adds to it compensates for it. The adapter of a
backbone declares the streams by registering a function for its block type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class ResidualStream:
    """A layer whose output is added to a residual stream.

    Attributes:
        layer: a linear layer or convolution.
        at: the module whose arguments hold the stream before the addition.
        arrange: maps the arguments of `at` to the stream as (..., C), in the order of the layer's output tokens.
    """

    layer: nn.Module
    at: nn.Module
    arrange: Callable[..., Tensor]


Finder = Callable[[Any], list[ResidualStream]]
_FINDERS: dict[type[nn.Module], Finder] = {}


def finds_streams(*module_types: type[nn.Module]) -> Callable[[Finder], Finder]:
    """Decorator that registers a function from a module of these types to its residual streams."""

    def register(finder: Finder) -> Finder:
        _FINDERS.update(dict.fromkeys(module_types, finder))
        return finder

    return register


def residual_streams(network: nn.Module) -> list[ResidualStream]:
    """Lists the residual streams of a network in definition order; empty for a backbone without an adapter."""
    found = ((module, _FINDERS.get(type(module))) for module in network.modules())
    return [stream for module, finder in found if finder is not None for stream in finder(module)]
