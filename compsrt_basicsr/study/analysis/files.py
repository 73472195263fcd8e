"""Writing an analysis as JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compsrt_basicsr.study.analysis.normality import TESTS
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

JSON, CSV = 'analysis.json', 'analysis.csv'
_ABOUT = ('name', 'kind', 'role', 'depth', 'order', 'same_as', 'skipped')


def remove_record(folder: Path) -> None:
    """Removes the analysis.json of an earlier analysis that is replaced."""
    (folder / JSON).unlink(missing_ok=True)


def write_files(analysis: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes analysis.json, and analysis.csv with a row for each tensor and transform. Both are written atomically.

    Args:
        analysis: the content of analysis.json.
        folder: created if it is missing.

    Returns:
        The two files.

    Raises:
        OSError: if a file could not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = json_text(analysis)
    rows = list(_rows(analysis))
    columns = dict.fromkeys(column for row in rows for column in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / CSV, text.getvalue())
    write_text(folder / JSON, record)
    return [folder / JSON, folder / CSV]


def _rows(analysis: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for tensor in analysis['tensors']:
        about = {name: tensor[name] for name in _ABOUT}
        if tensor['skipped']:
            yield {**about, 'transform': None}
        for transform, entry in tensor['by_transform'].items():
            yield {**about, 'transform': transform, **_flat(entry, analysis)}


def _flat(entry: Mapping[str, Any], analysis: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in entry.items():
        if name in ('near_abs', 'near_rel'):
            flat |= {f'{name}@{eps:g}': share for eps, share in zip(analysis[f'eps_{name[5:]}'], value)}
        elif name in TESTS:
            flat |= _test(name, value)
        elif name == 'smaller_samples':
            flat |= {
                f'{key}@{n}': v for n, tests in value.items() for t in tests for key, v in _test(t, tests[t]).items()
            }
        elif name == 'quant':
            flat |= {f'{key}@{bits}': error[key] for bits, error in value.items() for key in error}
        elif name != 'histogram':
            flat[name] = value
    return flat


def _test(name: str, outcome: Mapping[str, float] | None) -> dict[str, float | None]:
    return {f'{name}_{key}': None if outcome is None else outcome[key] for key in ('stat', 'p')}
