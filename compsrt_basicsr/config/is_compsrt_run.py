"""Which runs are ours: only those get strict options and exact resuming."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PREFIX = 'compsrt'


def is_ours(opt: Mapping[str, Any]) -> bool:
    """Tells whether the model type or any network type of these options comes from this package."""
    names = [opt.get('model_type')]
    names += [
        value.get('type')
        for key, value in opt.items()
        if str(key).startswith('network_') and isinstance(value, Mapping)
    ]
    return any(str(name).lower().startswith(_PREFIX) for name in names if name)
