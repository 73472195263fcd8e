"""Which runs belong to this package: only those get strict options and exact resuming."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PREFIX = 'compsrt'


def is_ours(opt: Mapping[str, Any]) -> bool:
    """Tells whether the model or a network of a run is one of this package.

    Args:
        opt: the options of the run, as read or as parsed.
    """
    names = [opt.get('model_type')]
    names += [
        value.get('type')
        for key, value in opt.items()
        if str(key).startswith('network_') and isinstance(value, Mapping)
    ]
    return any(str(name).lower().startswith(_PREFIX) for name in names if name)
