"""The list of a zoo's models: a YAML file `index.yml`, which any web server or folder can hold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from compsrt_basicsr.config.base import Options
from compsrt_basicsr.errors import CompSRTError, shown
from compsrt_basicsr.hub.entry import Entry
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.yaml_reader import parse_yaml

INDEX = 'index.yml'
FORMAT = 1


class IndexFile(Options):
    """The content of an `index.yml`; its entries are validated one by one, so that errors name the model."""

    format: Literal[1] = Field(description='Version of the format.')
    models: list[Any] = Field(description='Entries of the models.')


def parse_index(text: str, origin: str) -> dict[str, Entry]:
    """Reads an index.

    Args:
        text: YAML: `format: 1`, and under `models` a list of entries.
        origin: where it comes from, for messages.

    Returns:
        Entries by name.

    Raises:
        CompSRTError: if it is not an index of this format, or entries have errors; all of them are listed.
    """
    read = parse_yaml(text, f'`{origin}`', remedy='fix it, or take it out of the list of zoos')
    try:
        content = IndexFile.from_opt(read)
    except CompSRTError as error:
        raise CompSRTError(f'`{origin}` is not a zoo index of format {FORMAT}: {error}') from error
    entries: dict[str, Entry] = {}
    errors = []
    for values in content.models:
        try:
            entry = Entry.from_opt(values)
        except CompSRTError as error:
            name = values.get('name') if isinstance(values, dict) else None
            errors.append(f'The zoo model {"without a name" if name is None else shown(name)}: {error}')
            continue
        if entry.name in entries:
            errors.append(f'There are two models `{entry.name}`: remove one.')
        entries[entry.name] = entry
    if errors:
        raise CompSRTError(f'`{origin}`: {" ".join(errors)}')
    return entries


def read_index(folder: Path) -> dict[str, Entry]:
    """Reads the models of a folder; there are none where it has no index.

    Raises:
        CompSRTError: if the index cannot be used.
    """
    file = folder / INDEX
    if not file.exists():
        return {}
    try:
        return parse_index(file.read_text(encoding='utf-8'), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise CompSRTError(f'The zoo index `{file}` cannot be read ({error}).') from error


def write_index(folder: Path, entries: Iterable[Entry]) -> Path:
    """Writes the index of a folder, atomically.

    Raises:
        OSError: if it cannot be written.
    """
    content = {'format': FORMAT, 'models': [entry.to_mapping() for entry in entries]}
    file = folder / INDEX
    write_text(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100))
    return file
