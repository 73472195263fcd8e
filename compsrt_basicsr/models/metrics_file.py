"""Validation results as JSON next to the log; a metric that is infinite or undefined is `null` there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text


def write_metrics(opt: Mapping[str, Any], dataset: str, current_iter: int | str, results: Mapping[str, float]) -> Path:
    """Adds the metrics of one validation to the run's `metrics.json`: {dataset: {iteration: {metric: value}}}.

    Args:
        opt: options of the run.
        dataset: name of the data set.
        current_iter: iteration, or the name of a test.
        results: value of each metric.

    Returns:
        The file.

    Raises:
        OSError: if the file could not be written. The old one is untouched.
    """
    folder = opt['path'].get('experiments_root') or opt['path']['results_root']
    file = Path(folder) / 'metrics.json'
    stored = _stored(file)
    stored.setdefault(dataset, {})[str(current_iter)] = {key: float(value) for key, value in results.items()}
    return _replace(file, stored)


def write_details(
    opt: Mapping[str, Any], dataset: str, images: Mapping[str, Mapping[str, float]], levels: Mapping[str, int]
) -> Path:
    """Adds the results of single images and quantizers of one test to the run's `test_details.json`.

    Args:
        opt: options of the test.
        dataset: name of the data set.
        images: {image: {metric: value}}.
        levels: number of codes used by each quantizer; empty where none were counted.

    Returns:
        The file.

    Raises:
        OSError: if the file could not be written. The old one is untouched.
    """
    file = Path(opt['path']['results_root']) / 'test_details.json'
    return _replace(file, {**_stored(file), dataset: {'images': images, 'levels': levels}})


def _stored(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding='utf-8')) if file.exists() else {}
    except ValueError as error:
        raise CompSRTError(f'`{file}` is damaged, it is no JSON ({error}): move it away and try again.') from error


def _replace(file: Path, content: Mapping[str, Any]) -> Path:
    write_text(file, json_text(content, indent=2))
    return file
