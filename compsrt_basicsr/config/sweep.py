"""Options of a sweep file: a training, the axes that vary it, data sets, and how the runs are tested."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import Field, NonNegativeInt, ValidationInfo, field_validator, model_validator

from compsrt_basicsr.config.base import Options
from compsrt_basicsr.errors import shown, suggestion

T = TypeVar('T')
TRAIN = 'train'  # the name of the training set in `datasets`
_NAME = re.compile(r'[\w.+-]+', re.ASCII)

Changes = dict[str, Any]  # value by dotted path of an option


class LmdbOptions(Options):
    """The two LMDBs of a data set. `{scale}` in a path stands for the scale."""

    gt: str = Field(description='LMDB of the high-resolution images.')
    lq: str = Field(description='LMDB of the low-resolution images.')


class ProtocolOptions(Options):
    """How PSNR and SSIM are measured."""

    border: Literal['scale'] | NonNegativeInt = Field(
        'scale', description='Pixels cropped at each border; `scale` crops as many as the scale.'
    )
    channel: Literal['y', 'rgb'] = Field('y', description='Channels that are compared.')
    padding: Literal['symmetric', 'reflect'] = Field('symmetric', description='Padding of the input to the window.')


class EvalOptions(Options):
    """How each run is tested."""

    execution: Literal['auto', 'fake', 'integer'] = Field(
        'auto', description='`integer` codes, `fake` quantization, or integer codes wherever the network allows them.'
    )
    count_codes: Literal['first', 'all', 'skip'] = Field(
        'first', description='Images of each data set on which the codes in use are counted.'
    )


class SweepOptions(Options):
    """A sweep file. Every combination of the axes is a run."""

    name: str | None = Field(None, description="Name of the sweep; the file's own by default.")
    base: dict[str, Any] | str = Field(
        description="Options of `basicsr train`, or a file of them whose path starts at the sweep file's folder."
    )
    changes: Changes = Field(
        default_factory=dict, alias='set', description='Values by dotted path that change `base` for all runs.'
    )
    axes: dict[str, dict[str, Changes]] = Field(
        description='For each axis its values, and for each value the options it sets, by dotted path.',
        json_schema_extra={'additionalProperties': {'additionalProperties': {'type': ['object', 'null']}}},
    )
    exclude: list[dict[str, list[str]]] = Field(
        default_factory=list,
        description='Combinations of axis values that are left out.',
        json_schema_extra={'items': {'type': 'object', 'additionalProperties': True}},
    )
    datasets: dict[str, LmdbOptions | list[str] | str] = Field(
        description='`train` and any test sets: a folder of images, patterns, or two LMDBs; paths start at --data.'
    )
    protocol: ProtocolOptions = Field(default_factory=ProtocolOptions, description='How PSNR and SSIM are measured.')
    eval: EvalOptions = Field(default_factory=EvalOptions, description='How each run is tested.')
    full_precision: bool = Field(False, description='Whether the teachers are tested too.')
    slurm: dict[str, Any] = Field(default_factory=dict, description='Parameters of Slurm jobs, as submitit names them.')

    @property
    def test_sets(self) -> tuple[str, ...]:
        """Names of the data sets on which each run is tested."""
        return tuple(name for name in self.datasets if name != TRAIN)

    @model_validator(mode='before')
    @classmethod
    def _empty_sections_have_defaults(cls, values: Any) -> Any:
        return {k: v for k, v in values.items() if v is not None} if isinstance(values, Mapping) else values

    @field_validator('name', mode='before')
    @classmethod
    def _check_name(cls, value: Any) -> str:
        return _name(value)

    @field_validator('base', 'axes', 'datasets', mode='before')
    @classmethod
    def _check_not_empty(cls, value: Any) -> Any:
        if not value:
            raise ValueError('it is empty.')
        return value

    @field_validator('axes', mode='before')
    @classmethod
    def _check_axes(cls, axes: Any) -> dict[str, dict[str, Changes]]:
        found: dict[str, dict[str, Changes]] = {}
        errors: list[str] = []
        for axis, values in _section(axes).items():
            if not isinstance(values, Mapping) or not values:
                errors.append(
                    f'`{axis}` must map each value to the options it sets, such as '
                    f'`4: {{network_g.quant.weight_bits: 4}}`, got {shown(values)}.'
                )
                continue
            try:
                names = [_name(value) for value in values]
                if len(set(names)) < len(names):
                    raise ValueError(f'`{axis}` names a value twice.')
                found[_name(axis)] = {n: dict(_section(o or {})) for n, o in zip(names, values.values())}
            except ValueError as error:
                errors.append(str(error))
        return _checked(found, errors)

    @field_validator('exclude', mode='before')
    @classmethod
    def _check_exclude(cls, entries: Any, info: ValidationInfo) -> list[dict[str, list[str]]]:
        axes = info.data.get('axes')
        if not isinstance(entries, list):
            raise ValueError(f'it must be a list of combinations, got {shown(entries)}.')
        found: list[dict[str, list[str]]] = []
        errors: list[str] = []
        for entry in entries:
            listed = {
                str(axis): [str(value) for value in (values if isinstance(values, list) else [values])]
                for axis, values in _section(entry).items()
            }
            if not listed:
                errors.append('an empty entry would leave out every run.')
            if axes is not None:  # else they are wrong themselves
                errors += [e for axis, values in listed.items() for e in errors_of_values(axes, axis, values)]
            found.append(listed)
        return _checked(found, errors)

    @field_validator('datasets', mode='before')
    @classmethod
    def _check_datasets(cls, datasets: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        errors: list[str] = []
        for name, value in _section(datasets).items():
            if isinstance(value, Mapping):
                errors += LmdbOptions.errors_of(value, str(name))
            elif not value or not (isinstance(value, str) or _are_texts(value)):
                errors.append(f'`{name}` must be a folder of images, a pattern, or a list of them, got {shown(value)}.')
            try:
                found[_name(name)] = value
            except ValueError as error:
                errors.append(str(error))
        if not set(found) - {TRAIN}:
            errors.append('there is no test set: add one beside `train`, such as `Set5: FOLDER`.')
        return _checked(found, errors)


def errors_of_values(axes: Mapping[str, Mapping[str, Any]], axis: str, values: Iterable[str] = ()) -> list[str]:
    """Returns a sentence for an axis that does not exist, or for each value that is not on it; with the nearest."""
    if axis not in axes:
        return [f'`{axis}` is no axis of this sweep.{suggestion(axis, axes)} Axes: {", ".join(axes)}.']
    known = axes[axis]
    return [
        f'`{value}` is no value of the axis `{axis}`.{suggestion(value, known)} Values: {", ".join(known)}.'
        for value in values
        if value not in known
    ]


def _checked(value: T, errors: list[str]) -> T:
    if errors:
        raise ValueError(' '.join(errors))
    return value


def _section(value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f'expected a section of options, got {shown(value)}.')
    return value


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _name(value: Any) -> str:
    """Returns a name as text, if it can stand in file names; YAML reads some names as numbers."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not _NAME.fullmatch(str(value)):
        raise ValueError(f'a name is made of letters, digits and `_.+-`, got {shown(value)}.')
    return str(value)
