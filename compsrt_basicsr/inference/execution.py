"""Choose between fake quantization and integer codes, and say what was chosen."""

from __future__ import annotations

from torch import nn

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.integer.execution import set_execution_

AUTO, FAKE, INTEGER = 'auto', 'fake', 'integer'


def choose_execution(model: LoadedNetwork, execution: str) -> str:
    """Sets how a loaded model computes, as `execute_` does for its network."""
    return execute_(model.network, execution)


def execute_(network: nn.Module, execution: str) -> str:
    """Sets how a network computes in inference.

    Args:
        network: any network; one in full precision stays as it is.
        execution: 'fake', 'integer', or 'auto'. 'auto' means integer codes if the compiled kernels compute every layer
            that can run on codes, else fake quantization, since integer codes in torch are no faster.

    Returns:
        'fake' or 'integer', whichever was chosen.

    Raises:
        CompSRTError: if `execution` is 'integer' and the network cannot run on codes.
    """
    if execution != FAKE:
        try:
            report = set_execution_(network, INTEGER)
        except CompSRTError:
            if execution == INTEGER:
                raise
        else:
            if execution == INTEGER or 'torch' not in report.layers.values():
                return INTEGER
    set_execution_(network, FAKE)
    return FAKE


def way(quantized: bool, execution: str, dtype: str = 'float32') -> str:
    """Says how a network computes, such as 'on integer codes and in float32'.

    Args:
        quantized: whether the network is.
        execution: what `execute_` returned.
        dtype: of what stays in full precision.
    """
    if not quantized:
        return f'in {dtype}'
    return f'on integer codes and in {dtype}' if execution == INTEGER else f'by fake quantization in {dtype}'
