"""The grid file: options, the axes that vary them, data, protocol."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compsrt_basicsr.config.option_file import read_option_file
from compsrt_basicsr.errors import CompSRTError, suggestion

TRAIN = 'train'
EXECUTIONS = ('auto', 'fake', 'integer')
LEVELS = ('first', 'all', 'skip')
_SECTIONS = (
    'name', 'base', 'set', 'axes', 'exclude', 'datasets', 'protocol', 'eval', 'full_precision', 'slurm'
)  # fmt: skip
_PROTOCOL = {'border': 'scale', 'channel': 'y', 'padding': 'symmetric'}
_EVAL = {'execution': 'auto', 'levels': 'first'}
_NAME = re.compile(r'[\w.+-]+', re.ASCII)

Overrides = dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """A grid file, checked as far as it can be without its runs.

    Attributes:
        name: of the grid; its file's stem by default.
        base: options of a training run of BasicSR that all runs start from.
        axes: {axis: {value: {dotted path of an option: its value}}}, in the file's order.
        exclude: combinations that are not run: {axis: values}.
        datasets: {name: folder, patterns, or the LMDBs `gt` and `lq`}; `train` is the training set.
        border: pixels cropped before measuring; 'scale' takes as many as the scale.
        channel: 'y' or 'rgb'.
        padding: of the input to the window, as `val.pad`.
        execution: of the tests: 'integer' codes, 'fake' quantization, or 'auto': integer where it can be.
        levels: pictures of each set on which the codes used are counted, as `val.levels`.
        full_precision: test the teachers too.
        slurm: parameters of Slurm jobs.
    """

    name: str
    base: Mapping[str, Any]
    axes: Mapping[str, Mapping[str, Overrides]]
    exclude: tuple[Mapping[str, tuple[str, ...]], ...]
    datasets: Mapping[str, Any]
    border: int | str
    channel: str
    padding: str
    execution: str
    levels: str
    full_precision: bool = False
    slurm: Mapping[str, Any] = field(default_factory=dict)

    @property
    def test_sets(self) -> tuple[str, ...]:
        """Names of the sets that each run is tested on."""
        return tuple(name for name in self.datasets if name != TRAIN)


def read_grid(file: Path) -> Grid:
    """Reads a grid file.

    Raises:
        CompSRTError: what is wrong with it, with the nearest name of what is not known.
    """
    content, _ = read_option_file(str(file))
    _known(content, _SECTIONS, 'the grid')
    for section in ('base', 'axes', 'datasets'):
        if not content.get(section):
            raise CompSRTError(f'{file.name}: `{section}` is missing or empty.')
    axes = _axes(content['axes'])
    protocol = {**_PROTOCOL, **_section(content, 'protocol', _PROTOCOL)}
    evaluation = {**_EVAL, **_section(content, 'eval', _EVAL)}
    _choice('protocol.channel', protocol['channel'], ('y', 'rgb'))
    _choice('protocol.padding', protocol['padding'], ('symmetric', 'reflect'))
    _choice('eval.execution', evaluation['execution'], EXECUTIONS)
    _choice('eval.levels', evaluation['levels'], LEVELS)
    border = protocol['border']
    if border != 'scale' and (isinstance(border, bool) or not isinstance(border, int) or border < 0):
        raise CompSRTError(f'`protocol.border` must be `scale` or a whole number, 0 or more, got {border!r}.')
    if not isinstance(content.get('full_precision', False), bool):
        raise CompSRTError(f'`full_precision` must be true or false, got {content["full_precision"]!r}.')
    grid = Grid(
        name=_name(content.get('name', file.stem), 'name'),
        base=_overridden(_base(content['base'], file), _mapping(content.get('set') or {}, 'set'), '`set`'),
        axes=axes,
        exclude=tuple(_combination(entry, axes) for entry in _list(content.get('exclude') or [], 'exclude')),
        datasets={_name(name, 'datasets'): value for name, value in _mapping(content['datasets'], 'datasets').items()},
        **protocol,
        **evaluation,
        full_precision=content.get('full_precision', False),
        slurm=_mapping(content.get('slurm') or {}, 'slurm'),
    )
    if not grid.test_sets:
        raise CompSRTError('`datasets` names no test set: add one beside `train`, such as `Set5: FOLDER`.')
    return grid


def override(options: Mapping[str, Any], changes: Overrides, who: str) -> dict[str, Any]:
    """Options with some set by dotted path; sections on the way are made where they lack.

    Args:
        options: left as they are.
        changes: value by path, such as `network_g.quant.weight_bits`.
        who: whose changes they are, for the message.

    Raises:
        CompSRTError: a path leads through a value.
    """
    return _overridden(options, changes, who)


def _overridden(options: Mapping[str, Any], changes: Overrides, who: str) -> dict[str, Any]:
    result = _copied(options)
    for path, value in changes.items():
        *sections, last = str(path).split('.')
        section = result
        for depth, key in enumerate(sections):
            if section.get(key) is None:
                section[key] = {}
            section = section[key]
            if not isinstance(section, dict):
                raise CompSRTError(f'{who}: `{".".join(sections[: depth + 1])}` of `{path}` is a value, not a section.')
        section[last] = _copied(value)
    return result


def _copied(value: Any) -> Any:
    """A copy of plain dictionaries and lists."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, (list, tuple)) else value


def _base(base: Any, file: Path) -> dict[str, Any]:
    if isinstance(base, Mapping):
        return dict(base)
    if not isinstance(base, str):
        raise CompSRTError(f'`base` must be an option file or options, got {base!r}.')
    path = file.parent / Path(base).expanduser()
    if not path.is_file():
        raise CompSRTError(f'`base`: `{path}` does not exist; the path starts at the folder of the grid file.')
    return dict(read_option_file(str(path))[0])


def _axes(axes: Any) -> dict[str, dict[str, Overrides]]:
    found = {}
    for axis, values in _mapping(axes, 'axes').items():
        axis = _name(axis, 'axes')
        if not isinstance(values, Mapping):
            raise CompSRTError(
                f'`axes.{axis}` must map each value to the options it sets, such as `4: {{network_g.quant.weight_bits: '
                f'4}}`, got {values!r}.'
            )
        if not values:
            raise CompSRTError(f'`axes.{axis}` has no values: the grid is empty.')
        names = [_name(value, f'axes.{axis}') for value in values]
        if len(set(names)) < len(names):
            raise CompSRTError(f'`axes.{axis}` names a value twice.')
        options = [_mapping(o or {}, f'axes.{axis}.{n}') for n, o in zip(names, values.values())]
        found[axis] = dict(zip(names, options))
    return found


def _combination(entry: Any, axes: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """One entry of `exclude`."""
    found = {}
    for axis, values in _mapping(entry, 'exclude').items():
        check_value(axis, None, axes)
        values = values if isinstance(values, list) else [values]
        for value in values:
            check_value(axis, str(value), axes)
        found[str(axis)] = tuple(str(value) for value in values)
    if not found:
        raise CompSRTError('`exclude` has an empty entry, which would leave out every run.')
    return found


def check_value(axis: Any, value: str | None, axes: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises CompSRTError, naming the nearest, unless an axis is known, and a value on it."""
    if axis not in axes:
        raise CompSRTError(f'`{axis}` is no axis of this grid.{suggestion(axis, axes)} Axes: {", ".join(axes)}.')
    if value is not None and value not in axes[axis]:
        values = axes[axis]
        raise CompSRTError(
            f'`{value}` is no value of the axis `{axis}`.{suggestion(value, values)} Values: {", ".join(values)}.'
        )


def _known(section: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    known = tuple(known)
    for key in section:
        if key not in known:
            near = suggestion(key, known)
            raise CompSRTError(f'`{key}` is not an option of {where}.{near} Known options: {", ".join(known)}.')


def _section(content: Mapping[str, Any], name: str, known: Iterable[str]) -> Mapping[str, Any]:
    section = _mapping(content.get(name) or {}, name)
    _known(section, known, f'`{name}`')
    return section


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise CompSRTError(f'`{where}` must be a section of options, got {value!r}.')
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise CompSRTError(f'`{where}` must be a list, got {value!r}.')
    return value


def _choice(where: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise CompSRTError(f'`{where}` must be one of {", ".join(choices)}, got {value!r}.{suggestion(value, choices)}')


def _name(value: Any, where: str) -> str:
    """A name that can stand in file names."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not _NAME.fullmatch(str(value)):
        raise CompSRTError(f'`{where}`: a name is made of letters, digits and `_.+-`, got {value!r}.')
    return str(value)
