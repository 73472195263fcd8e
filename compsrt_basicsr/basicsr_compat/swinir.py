"""BasicSR's SwinIR and its registry of architectures, imported without the rest of BasicSR.

Importing any module of BasicSR executes `basicsr/__init__.py`, which imports all of it, torchvision and TorchDynamo
included: four seconds that inference does not need. Unless BasicSR has been imported, the modules that SwinIR needs are
imported here below empty parent packages, which are then removed: a later `import basicsr` executes as usual and finds
these modules in place.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from compsrt_basicsr.basicsr_compat import patches

_PARENTS = ('basicsr', 'basicsr.archs', 'basicsr.utils')
_VISION = 'torchvision'  # basicsr.archs.arch_util uses it for deformable convolutions only


class _Deferred(ModuleType):
    """A stand-in that imports the module of its name when one of its attributes is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def _empty_parents() -> Iterator[None]:
    """Inside this context, modules of BasicSR are imported without the `__init__` of their packages."""
    spec = importlib.util.find_spec('basicsr')
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("No module named 'basicsr'", name='basicsr')
    stand_ins = {name: ModuleType(name) for name in _PARENTS}
    for name, module in stand_ins.items():
        folders = name.split('.')[1:]
        module.__path__ = ['/'.join([root, *folders]) for root in spec.submodule_search_locations]
    if _VISION not in sys.modules:
        stand_ins[_VISION] = _Deferred(_VISION)
    sys.modules.update(stand_ins)
    try:
        logger = importlib.import_module('basicsr.utils.logger')
        vars(stand_ins['basicsr.utils'])['get_root_logger'] = logger.get_root_logger
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


warnings.filterwarnings('ignore', message='torch.meshgrid')  # SwinIR's; users can do nothing about it
if 'basicsr' not in sys.modules:
    with _empty_parents():
        importlib.import_module('basicsr.archs.swinir_arch')

from basicsr.archs.swinir_arch import (  # noqa: E402  found in sys.modules, so that nothing else is imported
    RSTB,
    Mlp,
    SwinIR,
    SwinTransformerBlock,
    WindowAttention,
    window_partition,
)
from basicsr.utils.registry import ARCH_REGISTRY  # noqa: E402

patches.apply_to_swinir()

__all__ = [
    'ARCH_REGISTRY',
    'RSTB',
    'Mlp',
    'SwinIR',
    'SwinTransformerBlock',
    'WindowAttention',
    'is_architecture',
    'window_partition',
]


def is_architecture(name: object) -> bool:
    """Returns whether an architecture of this name is registered; imports the rest of BasicSR before it says no."""
    if name not in ARCH_REGISTRY:
        patches.import_basicsr()
    return name in ARCH_REGISTRY
