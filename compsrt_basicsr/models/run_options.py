"""The options of a run as a model needs them, where no command has prepared them."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from compsrt_basicsr.config.methods.expand import expand_run, place_method
from compsrt_basicsr.config.renames import rename_run


def prepare_run(opt: MutableMapping[str, Any]) -> None:
    """Renames former options and completes a run with its method, in place; doing it again changes nothing."""
    rename_run(opt)
    if opt['is_train']:
        expand_run(opt)
    else:
        place_method(opt)
