"""Model classes for BasicSR's MODEL_REGISTRY: importing this package registers every `*_model.py`."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    if _module.name.endswith('_model'):
        importlib.import_module(f'{__name__}.{_module.name}')
