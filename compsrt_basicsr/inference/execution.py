"""Choose between fake quantization and integer codes."""

from __future__ import annotations

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.integer.execution import set_execution_

AUTO, FAKE, INTEGER = 'auto', 'fake', 'integer'


def choose_execution(model: LoadedNetwork, execution: str) -> str:
    """Sets how a loaded model computes.

    Args:
        model: any model; one in full precision stays as it is.
        execution: 'fake', 'integer', or 'auto'. 'auto' means integer codes if the compiled kernels compute every layer
            that can run on codes, else fake quantization, since integer codes in torch are no faster.

    Returns:
        'fake' or 'integer', whichever was chosen.

    Raises:
        CompSRTError: if `execution` is 'integer' and the model cannot run on codes.
    """
    if execution != FAKE:
        try:
            report = set_execution_(model.network, INTEGER)
        except CompSRTError:
            if execution == INTEGER:
                raise
        else:
            if execution == INTEGER or 'torch' not in report.layers.values():
                return INTEGER
    set_execution_(model.network, FAKE)
    return FAKE
