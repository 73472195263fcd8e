"""From the record of an architecture, as checkpoints and packed files keep it, to a network."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from torch import nn

from compsrt_basicsr.archs.build_limit import BuildLimit
from compsrt_basicsr.basicsr_compat.swinir import ARCH_REGISTRY, is_architecture
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.utils.text import counted

# Those of BasicSR from image to image; some others read files or download weights when they are built.
_OF_BASICSR = ('SwinIR', 'EDSR', 'RCAN', 'RRDBNet', 'MSRResNet', 'SRVGGNetCompact', 'ECBSR', 'RIDNet')
_LARGEST, _LONGEST, _DEEPEST = 2**14, 1024, 8


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


def rebuild(record: Mapping[str, Any], parameters: int) -> nn.Module:
    """Builds the network of a record, with fresh weights, in eval mode; a record is not trusted.

    Args:
        record: `arch`, `args` and `quant` as in `QuantRecord`.
        parameters: how many numbers the file has for it; a network that needs much more memory is not built.

    Raises:
        CompSRTError: if the record names no registered architecture, or its arguments do not fit it or the file.
    """
    _check(record.get('args'))
    arch, arguments = _named(record)
    quant = record.get('quant')
    try:
        quant = None if quant is None else QuantConfig.from_record(quant)
        with BuildLimit(parameters):
            return ARCH_REGISTRY.get(arch)(**arguments, quant=quant).eval()
    except CompSRTError:
        raise
    except Exception as error:  # of any kind: the arguments are as good as random
        raise CompSRTError(f'The recorded arguments do not fit {arch} ({_first_line(error)}).') from error


def geometry(record: Mapping[str, Any]) -> Geometry:
    """Returns scale, window multiple and channels of the network of a record.

    Raises:
        CompSRTError: if the architecture has no arguments that give them.
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
            f'The recorded architecture {arch!r} is not registered: import the package that has it first.'
            f'{suggestion(str(arch), ARCH_REGISTRY.keys())}'
        )
    if not isinstance(arguments, Mapping):
        raise CompSRTError(f'The record of {arch} has no arguments: the file is damaged.')
    built = ARCH_REGISTRY.get(arch)
    if built.__module__.startswith('basicsr.') and built.__name__ not in _OF_BASICSR:
        raise CompSRTError(f'{arch} is not built from a record: it is not a network from image to image.')
    if isinstance(base := arguments.get('base'), Mapping):
        _named({'arch': base.get('type'), 'args': base})
    return arch, arguments


def _check(value: Any, depth: int = 0) -> None:
    """Raises CompSRTError for arguments that no network has: absurdly large numbers, texts, lists or nesting."""
    parts = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else []
    number = isinstance(value, (int, float)) and not (math.isfinite(value) and abs(value) <= _LARGEST)
    if number or depth > _DEEPEST or len(parts) > _LONGEST or (isinstance(value, str) and len(value) > _LONGEST):
        text = (
            f'a {type(value).__name__} of {counted(len(value), "entry", "entries")}'
            if isinstance(value, (str, Mapping, list))
            else f'{value!r:.40}'
        )
        raise CompSRTError(f'The recorded arguments of the network are out of any range: {text}.')
    for part in parts:
        _check(part, depth + 1)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip('.')[:200]
