"""The list of a zoo's models: a YAML file `index.yml`, which any web server or folder can hold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.entry import Entry
from compsrt_basicsr.utils.atomic_write import replace_text

INDEX = 'index.yml'
FORMAT = 1


def parse_index(text: str, origin: str) -> dict[str, Entry]:
    """Reads an index.

    Args:
        text: YAML: `format: 1`, and under `models` a list of entries.
        origin: where it comes from, for messages.

    Returns:
        Entries by name.

    Raises:
        CompSRTError: it is no index of this format, or an entry is wrong.
    """
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise CompSRTError(f'`{origin}` is not valid YAML: mend it, or take it out of the list of zoos.') from error
    if not isinstance(content, dict) or content.get('format') != FORMAT or not isinstance(content.get('models'), list):
        raise CompSRTError(f'`{origin}` is no zoo index of format {FORMAT}: it needs `format: {FORMAT}` and `models`.')
    entries: dict[str, Entry] = {}
    for values in content['models']:
        try:
            entry = Entry.from_mapping(values)
        except CompSRTError as error:
            raise CompSRTError(f'`{origin}`: {error}') from error
        if entry.name in entries:
            raise CompSRTError(f'`{origin}` has two models `{entry.name}`: remove one.')
        entries[entry.name] = entry
    return entries


def read_index(folder: Path) -> dict[str, Entry]:
    """The models of a folder; none where it has no index.

    Raises:
        CompSRTError: the index cannot be used.
    """
    file = folder / INDEX
    if not file.exists():
        return {}
    try:
        return parse_index(file.read_text(encoding='utf-8'), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise CompSRTError(f'The zoo index `{file}` cannot be read ({error}).') from error


def write_index(folder: Path, entries: Iterable[Entry]) -> Path:
    """Replaces the index of a folder in one move."""
    content = {'format': FORMAT, 'models': [entry.to_mapping() for entry in entries]}
    file = folder / INDEX
    replace_text(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100))
    return file
