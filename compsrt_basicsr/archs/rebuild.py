"""A network from the record of its architecture, as checkpoints and packed files keep it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from compsrt_basicsr.errors import CompSRTError, suggestion


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


def rebuild(record: Mapping[str, Any]) -> nn.Module:
    """Builds the network of a record, with fresh weights, in eval mode.

    Args:
        record: `arch`, `args` and `quant` as in `QuantRecord`.

    Raises:
        CompSRTError: the record names no registered architecture or its arguments do not fit.
    """
    arch, arguments = _named(record)
    try:
        return ARCH_REGISTRY.get(arch)(**arguments, quant=record.get('quant')).eval()
    except (TypeError, ValueError, RuntimeError) as error:
        raise CompSRTError(f'The recorded arguments do not fit {arch} ({_first_line(error)}).') from error


def geometry(record: Mapping[str, Any]) -> Geometry:
    """Scale, window multiple and channels of the network of a record.

    Raises:
        CompSRTError: the architecture has no argument that tells them.
    """
    arch, arguments = _named(record)
    if isinstance(base := arguments.get('base'), Mapping):
        return geometry({'arch': base.get('type'), 'args': {k: v for k, v in base.items() if k != 'type'}})
    parameters = inspect.signature(ARCH_REGISTRY.get(arch)).parameters
    values = {**{name: p.default for name, p in parameters.items()}, **arguments}
    scale = values.get('upscale', values.get('scale'))
    channels = values.get('in_chans', values.get('num_in_ch'))
    multiple = values.get('window_size', 1)
    if arch == 'RRDBNet':  # below x4 it starts by folding pixels into channels
        multiple = {1: 4, 2: 2}.get(scale, 1)
    if not all(isinstance(value, int) and value > 0 for value in (scale, channels, multiple)):
        raise CompSRTError(
            f'The scale and the channels of {arch} cannot be told from its arguments: it needs `upscale` or `scale`, '
            'and `in_chans` or `num_in_ch`.'
        )
    return Geometry(scale, multiple, channels)


def _named(record: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    arch, arguments = record.get('arch'), record.get('args')
    if not isinstance(arch, str) or arch not in ARCH_REGISTRY:
        raise CompSRTError(
            f'The recorded architecture {arch!r} is not registered: import the package that has it first.'
            f'{suggestion(arch, ARCH_REGISTRY.keys())}'
        )
    if not isinstance(arguments, Mapping):
        raise CompSRTError(f'The record of {arch} has no arguments: the file is damaged.')
    return arch, arguments


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip('.')
