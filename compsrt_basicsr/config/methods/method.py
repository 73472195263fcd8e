"""What a method is, and how its options meet those that a file writes."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

Options = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """A named set of options.

    Attributes:
        name: what `method` in an option file calls it.
        title: what it does, in one line.
        source: who proposed it.
        quant: options of `QuantConfig`.
        calibration: options of `CalibrationConfig`.
        train: options of `train`; sections inside it may be written in part.
    """

    name: str
    title: str
    source: str
    quant: Options = field(default_factory=dict)
    calibration: Options = field(default_factory=dict)
    train: Options = field(default_factory=dict)


def complete(written: Mapping[str, Any], preset: Mapping[str, Any]) -> Options:
    """The options that are written, and the preset's where nothing is; ~ counts as written.

    Sections are completed option by option, unless the written one names another `type`: it then stands alone.
    """
    result = {**deepcopy(dict(preset)), **written}
    for key, mine in preset.items():
        theirs = written.get(key)
        if (
            isinstance(mine, Mapping)
            and isinstance(theirs, Mapping)
            and theirs.get('type', mine.get('type')) == mine.get('type')
        ):
            result[key] = complete(theirs, mine)
    return result


def differences(written: Mapping[str, Any], preset: Mapping[str, Any], where: str = '') -> list[str]:
    """Where a file overrides a preset: 'train.optim_g.lr 0.01 instead of 0.03'."""
    found = []
    for key, mine in preset.items():
        name = f'{where}.{key}' if where else key
        theirs = written.get(key, mine)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            found += differences(theirs, mine, name)
        elif theirs != mine:
            found.append(f'{name} {_shown(theirs)} instead of {_shown(mine)}')
    return found


def _shown(value: Any) -> str:
    return str(dict(value)) if isinstance(value, Mapping) else str(value)
