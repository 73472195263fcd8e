"""The methods as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from compsrt_basicsr.config.methods.method import Method
from compsrt_basicsr.config.methods.presets import METHODS
from compsrt_basicsr.config.quant import QuantConfig

_BASE = '2dquant'  # the plainest method that trains


def preset_tables() -> str:
    """What each method is, and all that its preset sets beyond what all presets have in common."""
    about = [(f'`{m.name}`', m.title, m.source) for m in METHODS.values()]
    stages = [(f'`{m.name}`', _listed(m.calibration), _listed(_own(m.train))) for m in METHODS.values()]
    return '\n\n'.join(
        (
            _table(('method', 'what it does', 'source'), about),
            _table(('method', '`calibration`', f'`train`, where it is not that of `{_BASE}`'), stages),
            _table(('method', *(f'`{name}`' for name in _varying())), [_quant_row(m) for m in METHODS.values()]),
        )
    )


def _own(train: Mapping[str, object]) -> dict[str, object]:
    """The options of `train` by dotted name that another method does not share."""
    shared = _flat(METHODS[_BASE].train)
    return {name: value for name, value in _flat(train).items() if name not in shared or shared[name] != value}


def _flat(options: Mapping[str, object], where: str = '') -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in options.items():
        found |= _flat(value, f'{where}{name}.') if isinstance(value, Mapping) else {f'{where}{name}': value}
    return found


def _varying() -> list[str]:
    """The options of `quant` that are not the same everywhere."""
    names = dict.fromkeys(name for method in METHODS.values() for name in method.quant)
    return [name for name in names if len({str(_value(m, name)) for m in METHODS.values()}) > 1]


def _value(method: Method, name: str) -> object:
    return method.quant.get(name, QuantConfig.model_fields[name].default)


def _quant_row(method: Method) -> tuple[str, ...]:
    return (f'`{method.name}`', *(_plain(_value(method, name)) for name in _varying()))


def _listed(options: Mapping[str, object]) -> str:
    return ', '.join(f'{name} {_plain(value)}' for name, value in options.items()) or '–'


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return tabulate(rows, head, tablefmt='github', disable_numparse=True)
