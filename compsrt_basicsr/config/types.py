"""Types of values that several sections share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from compsrt_basicsr.config.field_text import Accepts


def _whole(value: Any) -> Any:
    """Reads `5e5`, which YAML makes a float, as a whole number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _folder_name(value: str) -> str:
    if value.strip() in ('', '.', '..') or set(value) & set('/\\\0'):
        raise ValueError
    return value


Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1), Accepts('a whole number, 0 or more')]
Iterations = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
IterationsOrNone = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
WholeNumber = Annotated[int, BeforeValidator(_whole)]
PositiveNumber = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
FolderName = Annotated[str, AfterValidator(_folder_name), Accepts('text that can name a folder')]
NamePatterns = Annotated[
    tuple[str, ...],
    BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...]),
    Accepts('a name pattern or a list of name patterns'),
]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...]),
    Accepts('a name or a list of names'),
]
