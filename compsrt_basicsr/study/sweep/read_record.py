"""Reading the JSON records of finished runs. This needs no torch, so that reports start fast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.runs import Run

SCHEMA = 1
_KEYS = ('schema', 'name', 'hash', 'axes', 'options', 'protocol', 'results', 'seed', 'execution')


def read_record(file: Path) -> dict[str, Any]:
    """Reads the record of a run.

    Raises:
        CompSRTError: if the file is damaged, or of another schema.
    """
    try:
        record = json.loads(file.read_text(encoding='utf-8'))
        missing = [key for key in _KEYS if key not in record]
        if missing or record['schema'] != SCHEMA:
            raise ValueError(f'it has no `{missing[0]}`' if missing else f'its schema is {record["schema"]!r}')
        if not all(values['images'] for values in record['results'].values()):
            raise ValueError('a data set has no images')
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CompSRTError(
            f'`{file}` is no complete record of a run ({reason}): delete it and give `compsrt sweep` again.'
        ) from error
    return record


def is_done(file: Path, run: Run) -> bool:
    """Tells whether a file is the complete record of just this run."""
    try:
        return read_record(file)['hash'] == run.hash
    except CompSRTError:
        return False
