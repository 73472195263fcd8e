"""Modules of a network by name: selected by pattern, and replaced wherever they are used."""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import nn

from compsrt_basicsr.config.quant import QuantConfig


def replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    """Replaces the module with a dotted name, and everywhere else where the same module is used."""
    old = network.get_submodule(name)
    for other, found in list(network.named_modules(remove_duplicate=False)):
        if found is old:
            parent, _, child = other.rpartition('.')
            setattr(network.get_submodule(parent), child, module)


def selected(name: str, config: QuantConfig) -> bool:
    """Returns whether a name matches `include` and not `exclude`."""
    included = any(fnmatchcase(name, pattern) for pattern in config.include)
    return included and not any(fnmatchcase(name, pattern) for pattern in config.exclude)
