"""From the record of an architecture, as checkpoints and packed files keep it, to a network."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import nn

from compsrt_basicsr.archs.build_limit import BuildLimit, Stored
from compsrt_basicsr.archs.recorded_arguments import check_counts, check_sizes, check_types
from compsrt_basicsr.archs.spandrel_arch import SpandrelNetwork, spandrel
from compsrt_basicsr.basicsr_compat.swinir import ARCH_REGISTRY, is_architecture
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError, first_line, suggestion
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

# Those of BasicSR from image to image; some others read files or download weights when they are built.
_OF_BASICSR = ('SwinIR', 'EDSR', 'RCAN', 'RRDBNet', 'MSRResNet', 'SRVGGNetCompact', 'ECBSR', 'RIDNet')
_LONGEST_MESSAGE = 1000  # characters; a record may hold a thousand errors
_RUN_FACTOR = 16  # of the sum of what a network may compute for its smallest image
_FACTORS = {'GRL': 4}  # of spandrel: computes the masks of its img_size, for any weights


@dataclass(frozen=True)
class Geometry:
    """What a caller must know to feed a network.

    Attributes:
        scale: output over input side.
        multiple: height and width of the input must be multiples of it.
        channels: of the input.
    """

    scale: int
    multiple: int
    channels: int


def rebuild(record: Mapping[str, Any], stored: Stored) -> nn.Module:
    """Builds the network of a record, with fresh weights, in eval mode; a record is not trusted.

    Args:
        record: `arch`, `args` and `quant` as in `QuantRecord`.
        stored: how much the file holds of it; a network that needs much more memory or time is not built.

    Raises:
        CompSRTError: if the record names no registered architecture, or its arguments do not fit it or the file.
    """
    arch, arguments = _named(record)
    quant = record.get('quant')
    check_sizes(arguments)
    check_sizes(quant, numbers=False)
    _check_known(record, stored)
    try:
        quant = None if quant is None else QuantConfig.from_record(quant)
        with BuildLimit(stored, _factor(record)):
            return ARCH_REGISTRY.get(arch)(**arguments, quant=quant).eval()
    except CompSRTError as error:
        if len(str(error)) <= _LONGEST_MESSAGE:
            raise
        raise CompSRTError(f'{str(error)[:_LONGEST_MESSAGE]} …') from error
    except Exception as error:  # of any kind: the arguments are as good as random
        if is_out_of_memory(error):
            raise
        raise _misfit(arch, error) from error


@torch.no_grad()
def check_run(network: nn.Module, record: Mapping[str, Any]) -> None:
    """Runs a rebuilt network of BasicSR or spandrel on its smallest image: the arguments may not fit each other.

    CompSRTSwinIR checks all of its arguments itself, and of networks of other packages the smallest image is unknown.

    Raises:
        CompSRTError: if it fails, or its result has another size than its record says.
    """
    arch, arguments = _innermost(record)
    side, limit = 0, BuildLimit(Stored.of(network.state_dict()), _RUN_FACTOR)
    if isinstance(network, SpandrelNetwork):
        arch, side = network.arch, max(network.minimum, network.multiple)
    elif not _is_of_basicsr(arch) or arguments.get('ape'):  # with ape it takes images of one size only
        return
    try:
        shape = geometry(record, network)
    except CompSRTError:
        return
    side = side or shape.multiple
    try:
        with limit if isinstance(network, SpandrelNetwork) else nullcontext():
            result = network(torch.zeros(1, shape.channels, side, side))
    except CompSRTError:
        raise
    except Exception as error:  # of any kind, as above
        if is_out_of_memory(error):
            raise
        raise _misfit(arch, error) from error
    if result.shape[2:] != (shape.scale * side,) * 2:
        raise CompSRTError(f'The recorded arguments do not fit {arch} (its results are not of scale {shape.scale}).')


def geometry(record: Mapping[str, Any], network: nn.Module | None = None) -> Geometry:
    """Returns scale, window multiple and channels of the network of a record.

    Args:
        record: `arch` and `args`.
        network: the network itself; those of spandrel know more than their arguments say.

    Raises:
        CompSRTError: if the architecture has no arguments that give them.
    """
    if isinstance(network, SpandrelNetwork):
        return Geometry(network.scale, network.multiple, network.channels)
    arch, arguments = _named(record)
    if isinstance(base := arguments.get('base'), Mapping):
        return geometry({'arch': base.get('type'), 'args': {k: v for k, v in base.items() if k != 'type'}})
    parameters = inspect.signature(ARCH_REGISTRY.get(arch)).parameters
    values = {**{name: p.default for name, p in parameters.items()}, **arguments}
    scale = values.get('upscale', values.get('scale'))
    channels = values.get('in_chans', values.get('num_in_ch'))
    multiple = values.get('window_size', 1)
    if arch == 'RRDBNet':  # below x4 it starts by folding pixels into channels
        multiple = 4 if scale == 1 else 2 if scale == 2 else 1
    if not (_is_size(scale) and _is_size(channels) and _is_size(multiple)):
        raise CompSRTError(
            f'The arguments of {arch} do not give its scale and channels: it needs `upscale` or `scale`, and '
            '`in_chans` or `num_in_ch`.'
        )
    return Geometry(scale, multiple, channels)


def _is_size(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and value > 0


def _named(record: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    arch, arguments = record.get('arch'), record.get('args')
    if not isinstance(arch, str) or not is_architecture(arch):
        raise CompSRTError(
            f'The recorded architecture {arch!r:.40} is not registered: import the package that has it first.'
            f'{suggestion(str(arch)[:40], ARCH_REGISTRY.keys())}'
        )
    if not isinstance(arguments, Mapping):
        raise CompSRTError(f'The record of {arch} has no arguments: the file is damaged.')
    if _is_of_basicsr(arch) and ARCH_REGISTRY.get(arch).__name__ not in _OF_BASICSR:
        raise CompSRTError(f'{arch} is not built from a record: it is not a network from image to image.')
    if isinstance(base := arguments.get('base'), Mapping):
        _named({'arch': base.get('type'), 'args': base})
    return arch, arguments


def _factor(record: Mapping[str, Any]) -> int:
    arch, arguments = _innermost(record)
    return _FACTORS.get(str(arguments.get('arch')), 1) if ARCH_REGISTRY.get(arch) is spandrel else 1


def _check_known(record: Mapping[str, Any], stored: Stored) -> None:
    """Checks the arguments of the architectures that this package knows."""
    arch, arguments = _innermost(record)
    of_basicsr = _is_of_basicsr(arch)
    if of_basicsr:
        check_types(arch, arguments)
    if ARCH_REGISTRY.get(arch) is spandrel and isinstance(inner := arguments.get('args'), Mapping):
        check_counts(inner, stored)
    if of_basicsr or ARCH_REGISTRY.get(arch).__module__.startswith('compsrt_basicsr.'):
        check_counts(arguments, stored)


def _innermost(record: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Returns the name and the arguments of the architecture that a record quantizes."""
    arch, arguments = _named(record)
    if isinstance(base := arguments.get('base'), Mapping):
        return _innermost({'arch': base.get('type'), 'args': {k: v for k, v in base.items() if k != 'type'}})
    return arch, arguments


def _is_of_basicsr(arch: str) -> bool:
    return bool(ARCH_REGISTRY.get(arch).__module__.startswith('basicsr.'))


def _misfit(arch: str, error: Exception) -> CompSRTError:
    return CompSRTError(f'The recorded arguments do not fit {arch} ({first_line(error)}).')
