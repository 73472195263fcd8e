"""Quantization of the linears and convolutions of any network, in place and by name pattern."""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import nn

from compsrt_basicsr.config.quantization import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.layers import QuantConv2d, QuantLinear

_REPLACEMENTS: dict[type, type] = {nn.Linear: QuantLinear, nn.Conv2d: QuantConv2d}


def quantize_(network: nn.Module, config: QuantConfig) -> list[str]:
    """Replaces linears and convolutions of a network by quantized ones, which keep their parameters.

    Linears that match `config.include` and not `config.exclude` are replaced; convolutions only if `config.convs`; the
    first and the last layer of the network only if `config.head_tail`. Convolutions whose padding is not zeros stay as
    they are: the border would have to be quantized.

    Args:
        network: any module; changed in place.
        config: what to quantize and how.

    Returns:
        The dotted names of the replaced layers, in definition order.

    Raises:
        CompSRTError: no layer is left to quantize.
    """
    layers = {name: module for name, module in network.named_modules() if type(module) in _REPLACEMENTS}
    names = list(layers)
    ends = set() if config.head_tail else {names[0], names[-1]} if names else set()
    chosen = [name for name in names if name not in ends and _wanted(name, layers[name], config)]
    if not chosen:
        raise CompSRTError(
            f'Nothing to quantize in {type(network).__name__}: no layer matches `include` {list(config.include)}'
            f'{"" if config.convs else " (set `convs: true` to quantize convolutions)"}.'
        )
    for name in chosen:
        replace_module(network, name, _REPLACEMENTS[type(layers[name])](layers[name], config, name))
    return chosen


def replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    """Puts a module in the place of the one of that dotted name."""
    parent, _, child = name.rpartition('.')
    setattr(network.get_submodule(parent), child, module)


def selected(name: str, config: QuantConfig) -> bool:
    """True for a name that matches `include` and not `exclude`."""
    included = any(fnmatchcase(name, pattern) for pattern in config.include)
    return included and not any(fnmatchcase(name, pattern) for pattern in config.exclude)


def _wanted(name: str, module: nn.Module, config: QuantConfig) -> bool:
    if isinstance(module, nn.Conv2d) and (not config.convs or module.padding_mode != 'zeros'):
        return False
    return selected(name, config)
