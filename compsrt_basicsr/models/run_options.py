"""The options of a run as a model needs them, where no command has prepared them."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from compsrt_basicsr.config.methods.expand import expand_run

# New name by former name, for each section.
_RENAMED = {'train': {'float_lr': 'unquantized_lr'}, 'val': {'levels': 'count_codes'}}


def prepare_run(opt: MutableMapping[str, Any]) -> None:
    """Renames former options and completes a training with its method, in place; doing it again changes nothing."""
    for section, names in _RENAMED.items():
        values = opt.get(section) or {}
        for former, name in names.items():
            if former in values:
                values[name] = values.pop(former)
    if opt['is_train']:
        expand_run(opt)
