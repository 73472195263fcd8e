"""Parts of options that are not checked yet: whatever stands there, asking for it does not fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def section_of(section: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Returns a section, or an empty one where something else stands, whose error is reported elsewhere."""
    value = section.get(key)
    return value if isinstance(value, Mapping) else {}


def count_of(value: Any) -> int:
    """Returns a whole number above 0, and 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
