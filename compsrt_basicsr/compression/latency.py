"""How long a network takes in torch, before and after its compression."""

from __future__ import annotations

import os
import statistics
from typing import Any

import torch

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.inference.execution import FAKE
from compsrt_basicsr.inference.timing import alternate
from compsrt_basicsr.utils.text import counted

ROUNDS = 5  # of alternate measurements
_SIDE = 64  # LR pixels, at least


def latency_of(before: LoadedNetwork, after: LoadedNetwork, execution: str, device: torch.device) -> dict[str, Any]:
    """Measures two networks alternately.

    Args:
        before, after: the network in full precision, and compressed.
        execution: how the compressed one computes, such as 'fake'.
        device: where both are.

    Returns:
        `before` and `after`, median seconds of a square image of `side` LR pixels; what they were measured on; and an
        empty `engines`, for the files of engines.
    """
    side = -(-_SIDE // after.multiple) * after.multiple
    networks = {'before': before.network, 'after': after.network}
    times = alternate(networks, after.channels, side, str(device), ROUNDS)
    return {
        **{name: statistics.median(seconds) for name, seconds in times.items()},
        'side': side,
        'threads': counted(torch.get_num_threads(), 'thread'),
        'processor': counted(os.cpu_count() or 1, 'processor'),
        'execution': 'fake quantization' if execution == FAKE else 'integer codes',
        'engines': {},
        **({'gpu': torch.cuda.get_device_name(device)} if device.type == 'cuda' else {}),
    }
