"""Validation results as JSON beside the log."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_metrics(opt: Mapping[str, Any], dataset: str, current_iter: int | str, results: Mapping[str, float]) -> Path:
    """Adds the metrics of one validation to the run's `metrics.json`: {dataset: {iteration: {metric: value}}}.

    Args:
        opt: options of the run.
        dataset: name of the data set.
        current_iter: iteration, or the name of a test run.
        results: value by metric.
    """
    folder = opt['path'].get('experiments_root') or opt['path']['results_root']
    file = Path(folder) / 'metrics.json'
    stored = json.loads(file.read_text()) if file.exists() else {}
    stored.setdefault(dataset, {})[str(current_iter)] = {key: float(value) for key, value in results.items()}
    temporary = file.with_suffix('.json.tmp')
    temporary.write_text(json.dumps(stored, indent=2) + '\n')
    os.replace(temporary, file)
    return file
