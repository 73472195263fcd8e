"""The hardware that timings depend on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

_INSTRUCTIONS = ('avx2', 'avx_vnni', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_int8', 'amx_bf16')


def hardware() -> dict[str, Any]:
    """Returns processor, relevant instruction sets, GPU, torch version, and the load average of the last minute."""
    try:
        text = Path('/proc/cpuinfo').read_text()
    except OSError:
        text = ''
    model = re.search(r'^model name\s*: (.*)$', text, re.M)
    flags = re.search(r'^flags\s*: (.*)$', text, re.M)
    return {
        'processor': model[1] if model else platform.processor() or platform.machine(),
        'instructions': [flag for flag in _INSTRUCTIONS if flags and flag in flags[1].split()],
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        'torch': torch.__version__,
        'load': round(os.getloadavg()[0], 1) if hasattr(os, 'getloadavg') else None,
    }
