"""Option models as Markdown tables."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from compsrt_basicsr.config.field_text import expected
from compsrt_basicsr.config.renames import RENAMED


def options_table(model: type[BaseModel]) -> str:
    """Returns a table of the options of a section: name, default, what it accepts, meaning."""
    rows = [
        f'| `{name}` | {_default(info)} | {_accepts(info)} | {info.description} |'
        for name, info in model.model_fields.items()
        if not _is_hidden(info)
    ]
    return '\n'.join(['| option | default | accepts | meaning |', '|---|---|---|---|', *rows])


def renames_table() -> str:
    """Returns a table of the options that had another name."""
    changes = [(_place(kind), *names) for kind, new_names in RENAMED.items() for names in new_names.items()]
    rows = [f'| `{place}.{old}` | `{place}.{new}` |' for place, old, new in changes]
    return '\n'.join(['| before | now |', '|---|---|', '| `network_g.quant.method` | `method` |', *rows])


def _place(kind: str) -> str:
    return 'network_g.quant' if kind == 'quant' else kind


def _is_hidden(info: FieldInfo) -> bool:
    extra = info.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get('hidden'))


def _default(info: FieldInfo) -> str:
    return 'required' if info.is_required() else f'`{_yaml(info.default)}`'


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: '~', True: 'true', False: 'false'}[value]
    if isinstance(value, tuple):
        return str(list(value))
    return value if isinstance(value, str) and value else repr(value)


def _accepts(info: FieldInfo) -> str:
    text, choices = expected(info)
    words = ', '.join(f'`{choice}`' for choice in choices)
    text = text.removeprefix('one of ').replace(', '.join(choices), words, 1) if choices else text
    return text.replace(', or ~', ', or `~`')
