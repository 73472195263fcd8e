"""The base of all option models: strict, frozen, and with every error of a section reported at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from compsrt_basicsr.config.field_text import describe, is_list, is_mapping, is_section, members
from compsrt_basicsr.errors import CompSRTError, plain, shown, suggestion

T = TypeVar('T', bound='Options')


class Options(BaseModel):
    """A section of options. Each field has a type, a range, a default, and one sentence of `description`.

    Values are not converted: `'4'` is no number and `1` is no flag; but a YAML list fills a field of type tuple. An
    unknown option is an error that names the nearest known one. A validator reports its error by raising `ValueError`
    with a sentence for the user.

    Raises:
        CompSRTError: when built with values that do not fit; the message lists every error.
    """

    model_config = ConfigDict(extra='forbid', frozen=True, strict=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise CompSRTError(' '.join(sentences(type(self), error))) from error

    # Sections inside sections are validated without this constructor, so that pydantic collects all errors.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode='before')
    @classmethod
    def _lists_to_tuples(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        result = dict(values)
        for key, value in values.items():
            if (info := _field(cls, str(key))) is not None:
                result[key] = _as_tuples(info.annotation, value)
        return result

    @classmethod
    def from_opt(cls: type[T], opt: Mapping[str, Any] | T | None, where: str = '') -> T:
        """Builds the section from a YAML mapping; None gives the defaults.

        Args:
            opt: The mapping; a section that is built already is returned as it is.
            where: The place of the section, for messages.

        Raises:
            CompSRTError: the section is no mapping, or has errors; the message lists them all.
        """
        if isinstance(opt, cls):
            return opt
        values = {} if opt is None else opt
        errors = cls.errors_of(values, where)
        if errors or not isinstance(values, Mapping):
            raise CompSRTError(' '.join(errors))
        return cls(**{str(key): value for key, value in values.items()})

    @classmethod
    def errors_of(cls, opt: Any, where: str = '') -> list[str]:
        """Returns every error of a section as a sentence that starts with its place, such as `train.amp`."""
        if not isinstance(opt, (Mapping, cls)):
            subject = f'`{where}` must be' if where else 'Expected'
            return [f'{subject} a section of options, got {shown(opt)}.']
        try:
            cls.model_validate({str(k): v for k, v in opt.items()} if isinstance(opt, Mapping) else opt)
        except ValidationError as error:
            return list(sentences(cls, error, where))
        return []

    def replace(self: T, **changes: Any) -> T:
        """Returns a copy with other values, validated like a new section.

        Raises:
            CompSRTError: a value does not fit.
        """
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changes})


class Section(Options):
    """A section of an option file of BasicSR, where `~` means that an option is not given."""

    @model_validator(mode='before')
    @classmethod
    def _without_blanks(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {key: value for key, value in values.items() if value is not None or not cls.is_blank(key)}

    @classmethod
    def is_blank(cls, name: str) -> bool:
        """Tells whether `~` under this name means that the option is not given; elsewhere it is a value."""
        info = _field(cls, str(name))
        return info is not None and NoneType not in _branches(info.annotation)


class Place(NamedTuple):
    """Where an error is: its dotted path, the section that holds it, and what may stand there."""

    path: str
    section: type[BaseModel]
    annotation: Any
    metadata: list[Any]


def sentences(model: type[BaseModel], error: ValidationError, where: str = '') -> Iterator[str]:
    """Yields one sentence for each wrong place: what is expected there, what was found, and the nearest known name."""
    seen = set()
    for detail in error.errors(include_url=False):
        place = _locate(model, detail['loc'], where)
        if place.path not in seen:  # a union reports each of its branches
            seen.add(place.path)
            yield _sentence(detail, place)


def _locate(model: type[BaseModel], loc: tuple[int | str, ...], where: str) -> Place:
    """Follows pydantic's location through the annotations of the fields."""
    place = Place(where, model, model, [])
    branch_follows = False
    for part in loc:
        candidates = list(members(place.annotation))
        if branch_follows:  # pydantic names the branch of a union that it tried
            named = [c for c in candidates if getattr(c, '__name__', '') == part or part in _types_of(c)]
            place = place._replace(annotation=named[0] if named else place.annotation)
            branch_follows = False
            continue
        place = _step(place, candidates, part)
        branch_follows = len(list(members(place.annotation))) > 1
    return place


def _step(place: Place, candidates: list[Any], part: int | str) -> Place:
    """Goes to a field of a section, an entry of a mapping, or an item of a list."""
    name = plain(str(part), 100)
    for candidate in candidates:
        if is_section(candidate):
            info = _field(candidate, str(part))
            path = f'{place.path}.{name}' if place.path else name
            annotation, metadata = (None, []) if info is None else (info.annotation, info.metadata)
            return Place(path, candidate, annotation, metadata)
        if is_mapping(candidate):
            if part == '[key]':
                return place
            value = [*get_args(candidate), Any, Any][1]
            return Place(f'{place.path}.{name}', place.section, value, [])
        if is_list(candidate) and isinstance(part, int):
            items = [a for a in get_args(candidate) if a is not Ellipsis] or [Any]
            return Place(f'{place.path}[{part}]', place.section, items[min(part, len(items) - 1)], [])
    return place


def _branches(annotation: Any) -> tuple[Any, ...]:
    """Returns the types of a union, None included."""
    return tuple(get_args(annotation)) or (annotation,)


def _types_of(candidate: Any) -> tuple[Any, ...]:
    """Returns the values of `type` by which pydantic chooses a section."""
    info = _field(candidate, 'type') if is_section(candidate) else None
    return get_args(info.annotation) if info is not None else ()


def _field(model: type[BaseModel], name: str) -> FieldInfo | None:
    """Returns the field of a name or alias, or None."""
    for key, info in model.model_fields.items():
        if name in (key, info.alias):
            return info
    return None


def _sentence(detail: ErrorDetails, place: Place) -> str:
    kind, value = detail['type'], detail.get('input')
    if kind == 'extra_forbidden':
        known = [info.alias or key for key, info in place.section.model_fields.items()]
        return f'`{place.path}` is not an option.{suggestion(place.path.rpartition(".")[2], known)}'
    if kind == 'missing':
        return f'`{place.path}` is missing.'
    if kind == 'value_error':
        given = str(detail['ctx']['error'])
        if given:
            return f'`{place.path}`: {given}' if place.path else given
    if kind in ('union_tag_invalid', 'union_tag_not_found'):
        return _wrong_type(detail, place)
    wanted, choices = describe(place.annotation, place.metadata)
    near = suggestion(value, choices) if isinstance(value, str) else ''
    return f'`{place.path}` must be {wanted}, got {shown(value)}.{near}'


def _wrong_type(detail: ErrorDetails, place: Place) -> str:
    """Returns the sentence for a section whose `type` is none of those that pydantic chooses among."""
    value, types = detail.get('input'), [t for c in members(place.annotation) for t in _types_of(c)]
    if not isinstance(value, Mapping):
        return f'`{place.path}` must be a section of options, got {shown(value)}.'
    kind = value.get('type')
    if kind is None:
        return f'`{place.path}.type` is missing.'
    near = suggestion(kind, types) if isinstance(kind, str) else ''
    return f'`{place.path}.type` must be one of {", ".join(types)}, got {shown(kind)}.{near}'


def _as_tuples(annotation: Any, value: Any) -> Any:
    """Turns lists into tuples where the annotation has tuples; whatever does not fit is left to the validation."""
    for candidate in members(annotation):
        arguments = get_args(candidate)
        if isinstance(value, (list, tuple)) and is_list(candidate) and arguments:
            item = arguments[0]
            items = [_as_tuples(item, v) for v in value]
            return tuple(items) if (getattr(candidate, '__origin__', None) is tuple) else type(value)(items)
        if isinstance(value, Mapping) and is_mapping(candidate) and len(arguments) == 2:
            return {key: _as_tuples(arguments[1], v) for key, v in value.items()}
    return value
