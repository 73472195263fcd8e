"""Modules of a network by name: selected by pattern, and replaced wherever they are used."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import nn

from compsrt_basicsr.config.quant import QuantConfig


def replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    """Replaces the module with a dotted name, and everywhere else where the same module is used."""
    replace_modules(network, {network.get_submodule(name): module})


def replace_modules(network: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Replaces modules below a network wherever they are used, in one pass."""
    for parent in list(network.modules()):
        for child, module in list(parent._modules.items()):
            if module is not None and module in replacements:
                setattr(parent, child, replacements[module])


def selected(name: str, config: QuantConfig) -> bool:
    """Returns whether a name matches `include` and not `exclude`."""
    included = any(fnmatchcase(name, pattern) for pattern in config.include)
    return included and not any(fnmatchcase(name, pattern) for pattern in config.exclude)
