"""JSON that every reader can take: numbers that are not finite become `null`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def finite(value: Any) -> Any:
    """Returns plain data in which numbers that are not finite are None: JSON has neither NaN nor Infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return value


def json_text(value: Any, indent: int | None = None) -> str:
    """Returns plain data as JSON text with a line end, numbers that are not finite as `null`.

    Args:
        value: mappings, lists, texts, numbers, flags and None.
        indent: spaces for each level; None writes one line.
    """
    return json.dumps(finite(value), indent=indent, ensure_ascii=False, allow_nan=False) + '\n'
