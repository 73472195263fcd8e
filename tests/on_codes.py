"""A module on integer codes, and how near its output must be to fake quantization."""

import copy

from torch import Tensor, nn

from compsrt_basicsr.integer.execution import set_execution_


def on_codes(module: nn.Module) -> nn.Module:
    """Returns a copy that runs in the kernels."""
    twin = copy.deepcopy(module)
    assert set(set_execution_(twin, 'integer').layers.values()) == {'kernel'}
    return twin


def same(result: Tensor, expected: Tensor) -> bool:
    """Equal within 1e-5 of the largest value; another code would make a larger difference."""
    assert result.shape == expected.shape
    return float((result - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
