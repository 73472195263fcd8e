"""Low-bit quantization of super-resolution networks, as a plugin of BasicSR.

The names of `__all__` are the public API; docs/api.md describes them. Importing this package imports neither torch nor
BasicSR: each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from compsrt_basicsr.basicsr_compat import import_hook
from compsrt_basicsr.version import __version__

if TYPE_CHECKING:
    from compsrt_basicsr.api import (
        LoadedNetwork,
        calibrate,
        compress,
        load_network,
        quantize_,
        save_packed,
        upscale,
    )
    from compsrt_basicsr.basicsr_compat.register import register
    from compsrt_basicsr.config.calibration import CalibrationConfig
    from compsrt_basicsr.config.quant import QuantConfig
    from compsrt_basicsr.errors import CompSRTError

__all__ = [
    'CalibrationConfig',
    'CompSRTError',
    'LoadedNetwork',
    'QuantConfig',
    '__version__',
    'calibrate',
    'compress',
    'load_network',
    'quantize_',
    'register',
    'save_packed',
    'upscale',
]

_HOMES = {
    **dict.fromkeys(
        ('LoadedNetwork', 'calibrate', 'compress', 'load_network', 'quantize_', 'save_packed', 'upscale'), 'api'
    ),
    'CalibrationConfig': 'config.calibration',
    'QuantConfig': 'config.quant',
    'CompSRTError': 'errors',
    'register': 'basicsr_compat.register',
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


import_hook.install()
