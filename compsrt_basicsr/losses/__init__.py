"""Losses for BasicSR's LOSS_REGISTRY: importing this package registers every `*_loss.py`."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    if _module.name.endswith('_loss'):
        importlib.import_module(f'{__name__}.{_module.name}')
