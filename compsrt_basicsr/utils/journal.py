"""What an unfinished command has written, so that the same command, given again, goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Journal:
    """A hidden file in the folder of results, with a line for each one, until the command is complete.

    A line is written before the result gets its name, and holds what tells the file from one that somebody else put
    there: its size and its time. It also holds those of the source, so that a changed source is not taken for done.

    Args:
        folder: the results; may be missing until the first one is added.
        command: all that decides what is written, as JSON values. Another command has another journal.
    """

    def __init__(self, folder: Path, command: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(command, sort_keys=True).encode()).hexdigest()
        self._file = folder / f'.unfinished-{digest[:12]}.jsonl'
        self._lines = self._read()

    def has(self, result: Path, source: Path) -> bool:
        """Returns whether an earlier call of this command wrote a result, which is unchanged, from this source."""
        line = self._lines.get(result.name)
        return line is not None and result.is_file() and line == [_identity(result), _identity(source)]

    def add(self, result: Path, written: Path, source: Path) -> None:
        """Notes a result that is written completely, and is moved to its name next.

        Args:
            result: the name that it gets, in the journal's folder.
            written: the file now.
            source: what it was made from.

        Raises:
            OSError: if the disk is full.
        """
        line = json.dumps([result.name, _identity(written), _identity(source)])
        with self._file.open('a', encoding='utf-8') as file:
            file.write(f'\n{line}')  # a line that a killed process cut short ends here

    def finish(self) -> None:
        """Removes the journal: the command is complete."""
        self._file.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        found = {}
        try:
            text = self._file.read_text(encoding='utf-8')
        except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
            return {}
        for line in text.splitlines():
            try:
                name, *identities = json.loads(line)
                found[str(name)] = identities
            except (ValueError, TypeError):
                continue
        return found


def _identity(file: Path) -> list[int]:
    state = file.stat()
    return [state.st_size, state.st_mtime_ns]
