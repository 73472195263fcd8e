"""Quantization of the linear and convolutional layers of any network, in place, selected by name pattern."""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import nn

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.layers import QuantConv2d, QuantLinear

_REPLACEMENTS: dict[type, type] = {nn.Linear: QuantLinear, nn.Conv2d: QuantConv2d}


def quantize_(network: nn.Module, config: QuantConfig) -> list[str]:
    """Replaces linear and convolutional layers by quantized layers with the same parameters.

    Replaces layers that match `config.include` and not `config.exclude`: convolutions only if
    `config.quantize_convs` is set, the first and last layer of the network only if `config.quantize_head_tail` is set.
    Convolutions with another padding mode
    than zeros are never replaced, because their border would have to be quantized too.

    Args:
        network: any module; modified in place.
        config: the quantization options.

    Returns:
        The dotted names of the replaced layers, in definition order.

    Raises:
        CompSRTError: if no layer is selected.
    """
    layers = {name: module for name, module in network.named_modules() if type(module) in _REPLACEMENTS}
    names = list(layers)
    ends = set() if config.quantize_head_tail else {names[0], names[-1]} if names else set()
    chosen = [name for name in names if name not in ends and _wanted(name, layers[name], config)]
    if not chosen:
        raise CompSRTError(
            f'{type(network).__name__} has nothing to quantize: no layer matches `include` {list(config.include)}'
            f'{"" if config.quantize_convs else " (set `quantize_convs: true` to quantize convolutions)"}.'
        )
    for name in chosen:
        replace_module(network, name, _REPLACEMENTS[type(layers[name])](layers[name], config, name))
    return chosen


def replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    """Replaces the module with a dotted name."""
    parent, _, child = name.rpartition('.')
    setattr(network.get_submodule(parent), child, module)


def selected(name: str, config: QuantConfig) -> bool:
    """Returns whether a name matches `include` and not `exclude`."""
    included = any(fnmatchcase(name, pattern) for pattern in config.include)
    return included and not any(fnmatchcase(name, pattern) for pattern in config.exclude)


def _wanted(name: str, module: nn.Module, config: QuantConfig) -> bool:
    if isinstance(module, nn.Conv2d) and (not config.quantize_convs or module.padding_mode != 'zeros'):
        return False
    return selected(name, config)
