"""Architectures for BasicSR's ARCH_REGISTRY; every `*_arch.py` here is imported and registers itself."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    if _module.name.endswith('_arch'):
        importlib.import_module(f'{__name__}.{_module.name}')
