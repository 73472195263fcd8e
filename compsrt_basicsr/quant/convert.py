"""Quantization of the linear and convolutional layers of any network, in place, selected by name pattern."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.convolutions import QuantConv2d, QuantConvTranspose2d
from compsrt_basicsr.quant.layers import QuantizedLayer, QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.names import replace_modules, selected

_REPLACEMENTS: dict[type, Callable[[Any, QuantConfig, str], QuantizedLayer]] = {
    nn.Linear: QuantLinear,
    nn.Conv2d: QuantConv2d,
    nn.ConvTranspose2d: QuantConvTranspose2d,
}


def quantize_(network: nn.Module, config: QuantConfig) -> list[str]:
    """Replaces linear and convolutional layers by quantized layers with the same parameters.

    Replaces layers that match `config.include` and not `config.exclude`: convolutions only if
    `config.quantize_convs` is set, the first and last layer of the network only if `config.quantize_head_tail` is set.
    A layer that the network uses under several names is replaced under all of them.

    Args:
        network: any module; modified in place.
        config: the quantization options.

    Returns:
        The dotted names of the replaced layers, in definition order.

    Raises:
        CompSRTError: if no layer is selected, or one cannot be split as `config.split` asks.
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
    made = {layers[name]: _quantized(layers[name], config, name) for name in chosen}
    replace_modules(network, made)
    return chosen


def _quantized(layer: nn.Module, config: QuantConfig, name: str) -> QuantizedLayer:
    parts = config.parts_of(name) if isinstance(layer, nn.Linear) else ()
    if not parts:
        return _REPLACEMENTS[type(layer)](layer, config.at(name), name)
    assert isinstance(layer, nn.Linear)
    if layer.out_features % len(parts):
        raise CompSRTError(
            f'`quant.split` divides the {layer.out_features} outputs of `{name}` into {len(parts)} equal parts, which '
            'is not possible: leave it out, or give another number of parts.'
        )
    return QuantSplitLinear(layer, config.at(name), parts, name, joined=True)


def _wanted(name: str, module: nn.Module, config: QuantConfig) -> bool:
    wanted = (config.quantize_convs or isinstance(module, nn.Linear)) and selected(name, config)
    return wanted and cast(Tensor, module.weight).numel() > 0  # some networks have layers of no channels
