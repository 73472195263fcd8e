"""The base of all option models: strict, frozen, and with every error of a section reported at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from compsrt_basicsr.config.field_text import expected
from compsrt_basicsr.errors import CompSRTError, suggestion

T = TypeVar('T', bound='Options')


class Options(BaseModel):
    """A section of options. Each field has a type, a range, a default, and one sentence of `description`.

    Values are not converted: `'4'` is no number and `1` is no flag. An unknown option is an error that names the
    nearest known one. A validator reports its error by raising `ValueError` with a sentence for the user.

    Raises:
        CompSRTError: when built with values that do not fit; the message lists every error.
    """

    model_config = ConfigDict(extra='forbid', frozen=True, strict=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise CompSRTError(' '.join(sentences(type(self), error))) from error

    # Sections inside sections are validated without this constructor, so that pydantic collects all errors.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def from_opt(cls: type[T], opt: Mapping[str, Any] | T | None) -> T:
        """Builds the section from a YAML mapping; None gives the defaults.

        Raises:
            CompSRTError: the section is no mapping, or has errors.
        """
        if isinstance(opt, cls):
            return opt
        if opt is not None and not isinstance(opt, Mapping):
            raise CompSRTError(f'Expected a section of options, got {opt!r}.')
        return cls(**dict(opt or {}))

    @classmethod
    def errors_of(cls, opt: Any, where: str = '') -> list[str]:
        """Returns every error of a section as a sentence that starts with its place, such as `train.amp`."""
        try:
            cls.model_validate(opt)
        except ValidationError as error:
            return list(sentences(cls, error, where))
        return []


def sentences(model: type[BaseModel], error: ValidationError, where: str = '') -> Iterator[str]:
    """Yields one sentence for each wrong place: what is expected there, what was found, and the nearest known name."""
    seen = set()
    for detail in error.errors(include_url=False):
        place, owner, name = _locate(model, detail['loc'], where)
        if place not in seen:  # a union reports each of its branches
            seen.add(place)
            yield _sentence(detail, place, owner, name)


def _locate(model: type[BaseModel], loc: tuple[int | str, ...], where: str) -> tuple[str, type[BaseModel], str]:
    """Returns the dotted place of an error, the model that holds the field, and the field's name in the file."""
    owner, path, name = model, [where] if where else [], ''
    for depth, part in enumerate(loc):
        found = _field(owner, str(part))
        if found is None and depth and name:  # an index, a key of a mapping, or the branch of a union
            if isinstance(part, int):
                path[-1] += f'[{part}]'
            elif _holds_names(owner, name):
                path.append(str(part))
            continue
        path.append(str(part))
        name = str(part)
        nested = _nested(owner, name)
        if nested is not None and depth + 1 < len(loc) and not _holds_names(owner, name):
            owner, name = nested, ''
    return '.'.join(path), owner, name


def _field(model: type[BaseModel], name: str) -> Any:
    """Returns the field of a name or alias, or None."""
    for key, info in model.model_fields.items():
        if name in (key, info.alias):
            return info
    return None


def _holds_names(model: type[BaseModel], name: str) -> bool:
    """Tells whether a field maps names of the user's to values."""
    info = _field(model, name)
    annotations = [] if info is None else [info.annotation, *get_args(info.annotation)]
    return any(get_origin(a) is dict for a in annotations)


def _nested(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Returns the model of a field that holds a section, or None."""
    info = _field(model, name)
    candidates = [] if info is None else [info.annotation, *get_args(info.annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _sentence(detail: ErrorDetails, place: str, owner: type[BaseModel], name: str) -> str:
    kind, value = detail['type'], detail.get('input')
    if kind == 'extra_forbidden':
        known = [info.alias or key for key, info in owner.model_fields.items()]
        return f'`{place}` is not an option.{suggestion(place.rpartition(".")[2], known)}'
    if kind == 'missing':
        return f'`{place}` is missing.'
    if kind == 'value_error':
        told = str(detail['ctx']['error'])
        return f'`{place}`: {told}' if place else told
    info = _field(owner, name)
    if kind == 'model_type' or info is None:
        return f'`{place}` must be a section of options, got {shown(value)}.'
    wanted, choices = expected(info)
    return f'`{place}` must be {wanted}, got {shown(value)}.{suggestion(str(value), choices) if choices else ""}'


def shown(value: Any) -> str:
    """Returns a value in one short line."""
    text = f'`{value}`' if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
