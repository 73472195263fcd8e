"""JSON schemas, by which editors complete, explain and check option files and sweep files."""

from __future__ import annotations

import re
from typing import Any

from compsrt_basicsr.config.field_text import sections_of
from compsrt_basicsr.config.run import RunOptions
from compsrt_basicsr.config.sweep import SweepOptions
from compsrt_basicsr.config.training import TrainOptions

_LINK = re.compile(r'\[([^]]+)\]\([^)]+\)')


def run_schema() -> dict[str, Any]:
    """Returns the schema of an option file, in the subset of draft 7 that editors support.

    Nothing is required inside `train`: a method may fill it in.
    """
    schema = RunOptions.model_json_schema()
    for model in sections_of(TrainOptions):
        schema['$defs'][model.__name__].pop('required', None)
    return _titled('Options of a run', schema)


def sweep_schema() -> dict[str, Any]:
    """Returns the schema of a sweep file."""
    return _titled('A sweep file', SweepOptions.model_json_schema())


def _titled(title: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {'$schema': 'http://json-schema.org/draft-07/schema#', 'title': title, **_simplified(schema)}


def _simplified(node: Any) -> Any:
    """Drops generated titles and hidden options, and lets any branch match where some are told apart by `type`."""
    if isinstance(node, list):
        return [_simplified(item) for item in node]
    if not isinstance(node, dict):
        return node
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key == 'properties':
            shown = {name: field for name, field in value.items() if not field.get('hidden')}
            result[key] = {name: _simplified(field) for name, field in shown.items()}
        elif key == 'description' and isinstance(value, str):
            result[key] = ' '.join(_LINK.sub(r'\1', value.split('\n\n')[0]).split())
        elif key not in ('title', 'discriminator'):
            result['anyOf' if key == 'oneOf' else key] = _simplified(value)
    return result
