"""Reading the options of a run from the mapping that BasicSR hands to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Options of today and what they were called before; `parse_options` renames them, scripts may not.
_FORMER_NAMES = {'unquantized_lr': 'float_lr', 'count_codes': 'levels'}


def option(opt: Mapping[str, Any], section: str, name: str, default: Any = None) -> Any:
    """Returns an option by its present name; a former name is read too.

    Args:
        opt: the options of the run.
        section: 'train', 'val' or another section, which may be absent.
        name: the option.
        default: the value where the option is absent or None.
    """
    values = opt.get(section) or {}
    for key in (name, _FORMER_NAMES.get(name)):
        if key is not None and values.get(key) is not None:
            return values[key]
    return default
