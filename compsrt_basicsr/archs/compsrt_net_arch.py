"""CompSRTNet: any registered architecture, quantized."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from glob import escape
from typing import Any

from torch import nn

from compsrt_basicsr.archs.compsrt_swinir_arch import quantize_swin_blocks_
from compsrt_basicsr.archs.mambairv2_light_arch import MambaIRv2Light
from compsrt_basicsr.archs.spandrel_arch import SpandrelNetwork
from compsrt_basicsr.archs.state_dicts import forget_recomputable_buffers
from compsrt_basicsr.basicsr_compat.swinir import ARCH_REGISTRY, SwinIR, is_architecture
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.integer import convolution as _convolutions  # noqa: F401  (registers itself)
from compsrt_basicsr.integer import products as _products  # noqa: F401  (registers itself)
from compsrt_basicsr.integer.execution import set_execution_
from compsrt_basicsr.quant.convert import quantize_
from compsrt_basicsr.quant.names import selected
from compsrt_basicsr.quant.prepare import fold_batch_norms_, make_attention_plain_, make_weights_plain_
from compsrt_basicsr.quant.products import quantize_products_
from compsrt_basicsr.quant.record import QuantRecord
from compsrt_basicsr.quant.structure import Structure, trace

_SIDES = (32, 48)  # pixels of the images from which the structure of a network is found


@ARCH_REGISTRY.register()
def CompSRTNet(
    base: Mapping[str, Any], quant: Mapping[str, Any] | None = None, structure: Mapping[str, Any] | None = None
) -> nn.Module:
    """Builds a registered network and quantizes its layers in place.

    Returns the network itself. Its parameters keep their names, so its full-precision checkpoints load. The attention
    of a SwinIR is replaced by its adapter; the products of other attention are quantized with `quantize_products`.

    Args:
        base: `type` and arguments of the network, as in a `network_g:` section.
        quant: options of `QuantConfig`; convolutional networks need `quantize_convs: true`.
        structure: as `Structure.to_json` gives it; None: found by running the network on two small images, where it
            is needed.

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
    if isinstance(network, SpandrelNetwork):
        arguments = {'arch': network.arch, 'args': network.arguments}
    config = QuantConfig.from_opt(quant)
    known = None if structure is None else Structure.from_json(structure)
    quantize_network_(network, config, {'type': name, **arguments}, known)
    return network


def quantize_network_(
    network: nn.Module, config: QuantConfig, base: Mapping[str, Any], structure: Structure | None = None
) -> None:
    """Quantizes a network of any architecture in place and records how.

    Args:
        network: a network in full precision.
        config: what to quantize and how.
        base: `type` and arguments that build it.
        structure: None: found here, if the configuration needs it.

    Raises:
        CompSRTError: if no layer is selected, or the structure cannot be found or does not fit.
    """
    if isinstance(network, SwinIR):
        quantize_swin_blocks_(network, config)
        forget_recomputable_buffers(network)
        structure = None
    else:
        structure = prepare_(network, config, structure)
        unused = structure.unused if structure else ()
        quantize_(network, config.replace(exclude=(*config.exclude, *map(escape, unused))))
        if structure is not None:
            _quantize_code_(network, structure, config)
        if config.quantize_scan:
            _quantize_scans_(network, config)
    arguments = {'base': dict(base), **({'structure': structure.to_json()} if structure else {})}
    network.quant_record = QuantRecord(config, 'CompSRTNet', json.loads(json.dumps(arguments)))
    set_execution_(network, config.execution)


def prepare_(network: nn.Module, config: QuantConfig, structure: Structure | None = None) -> Structure | None:
    """Gives a network the layers that are quantized, in place: plain weights and attention, folded batch norms.

    It computes the same as before, with weights of other names.

    Args:
        network: a network in full precision, no SwinIR.
        config: what will be quantized.
        structure: of this network; None: found here, if the configuration needs it.

    Returns:
        The structure.

    Raises:
        CompSRTError: if the structure cannot be found or does not fit.
    """
    make_weights_plain_(network)
    if isinstance(network, MambaIRv2Light):
        forget_recomputable_buffers(network)
    if config.quantize_products:
        make_attention_plain_(network, structure.unused if structure else ())
    structure = structure or find_structure(network, config)
    if structure is not None:
        _check(structure, network)
        fold_batch_norms_(network, structure.folds)
    return structure


def _quantize_code_(network: nn.Module, structure: Structure, config: QuantConfig) -> None:
    """Quantizes what modules compute themselves, after their layers."""
    for name in dict.fromkeys((*structure.products, *structure.called)):
        module, prefix = network.get_submodule(name), f'{name}.' if name else ''
        called = [layer.removeprefix(prefix) for layer in structure.called.get(name, ())]
        quantize_products_(module, structure.products.get(name, ()), config.at(name), name, called)


def find_structure(network: nn.Module, config: QuantConfig) -> Structure | None:
    """Finds what of a network's structure a configuration concerns, or returns None if it needs none."""
    if not (config.quantize_products or config.fold_norms or isinstance(network, SpandrelNetwork)):
        return None
    found = trace(network, getattr(network, 'channels', 3), getattr(network, 'sides', _SIDES)).structure
    products = {name: kinds for name, kinds in found.products.items() if selected(name, config)}
    folds = found.folds if config.fold_norms else ()
    return Structure(products if config.quantize_products else {}, folds, found.unused, found.called)


def _quantize_scans_(network: nn.Module, config: QuantConfig) -> None:
    """Quantizes the operands of modules with a method `quantize_operands_`."""
    scans = {name: module for name, module in network.named_modules() if hasattr(module, 'quantize_operands_')}
    if not scans:
        raise CompSRTError(f'`quantize_scan`: {type(network).__name__} has no selective scan; leave it out.')
    for name, module in scans.items():
        if selected(name, config):
            module.quantize_operands_(config.at(name), name)


def _check(structure: Structure, network: nn.Module) -> None:
    names = {name for name, _ in network.named_modules()}
    called = [layer for owner, layers in structure.called.items() for layer in (owner, *layers)]
    if unknown := [name for name in (*structure.products, *called) if name not in names]:
        raise CompSRTError(f'The recorded structure names the module `{unknown[0]}`, which the network does not have.')
