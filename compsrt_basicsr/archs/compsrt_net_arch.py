"""CompSRTNet: any registered architecture, quantized."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from torch import nn

from compsrt_basicsr.archs.compsrt_swinir_arch import quantize_swin_blocks_
from compsrt_basicsr.archs.state_dicts import forget_recomputable_buffers
from compsrt_basicsr.basicsr_compat.swinir import ARCH_REGISTRY, SwinIR, is_architecture
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.integer.execution import set_execution_
from compsrt_basicsr.quant.convert import quantize_
from compsrt_basicsr.quant.record import QuantRecord


@ARCH_REGISTRY.register()
def CompSRTNet(base: Mapping[str, Any], quant: Mapping[str, Any] | None = None) -> nn.Module:
    """Builds a registered network and quantizes its linear layers and convolutions in place.

    Returns the network itself. Its parameters keep their names, so its full-precision checkpoints load. The attention
    of a SwinIR is replaced by its adapter; for other attention, write one like `QuantWindowAttention`.

    Args:
        base: `type` and arguments of the network, as in a `network_g:` section.
        quant: options of `QuantConfig`; convolutional networks need `quantize_convs: true`.

    Raises:
        CompSRTError: if `base` does not name a registered network, its arguments do not fit, or no layer is selected
            for quantization.
    """
    arguments = deepcopy(dict(base))
    name = arguments.pop('type', None)
    if not is_architecture(name):
        raise CompSRTError(
            f'`base.type` {name!r} is not a registered architecture.{suggestion(str(name), ARCH_REGISTRY.keys())}'
        )
    try:
        network = ARCH_REGISTRY.get(name)(**arguments)
    except TypeError as error:
        raise CompSRTError(f'The arguments of `base` do not fit {name}: {error}.') from error
    config = QuantConfig.from_opt(quant)
    if isinstance(network, SwinIR):
        quantize_swin_blocks_(network, config)
        forget_recomputable_buffers(network)
    else:
        quantize_(network, config)
    network.quant_record = QuantRecord(config, 'CompSRTNet', {'base': dict(base)})
    set_execution_(network, config.execution)
    return network
