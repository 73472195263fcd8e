"""The `--force_yml` option of `basicsr`, for scripts that run shipped option files."""

from __future__ import annotations

import json
from typing import Any


def force(options: dict[str, Any]) -> list[str]:
    """Returns `--force_yml` and its entries; nested values are written as JSON, which is valid YAML."""
    texts = (f'{key}={value if isinstance(value, str) else json.dumps(value)}' for key, value in options.items())
    return ['--force_yml', *texts]
