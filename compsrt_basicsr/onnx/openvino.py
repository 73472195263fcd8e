"""OpenVINO models, by OpenVINO's own converter."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx.engines import engine_errors
from compsrt_basicsr.onnx.model import INPUT
from compsrt_basicsr.utils.signal_stack import signal_stack_kept


def _library() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise CompSRTError(
            "The target `openvino` needs the package openvino: `python -m pip install 'compsrt_basicsr[engines]'`."
        ) from error
    return openvino


def convert(model: ModelProto, file: Path, weights: Path, name: Path) -> None:
    """Converts an ONNX model and writes it; weights keep their precision.

    Args:
        model: the ONNX model.
        file: the `.xml` file.
        weights: the `.bin` file.
        name: the file as the user knows it, for errors.

    Raises:
        CompSRTError: if openvino is missing or cannot convert the model.
    """
    openvino = _library()
    with engine_errors('openvino', name, 'convert'):
        converted = openvino.Core().read_model(model.SerializeToString(), b'')
        openvino.save_model(converted, str(file), compress_to_fp16=False)
    os.replace(file.with_suffix('.bin'), weights)


class OpenVINOSession:
    """A model of OpenVINO on the CPU, with as many threads as torch.

    Args:
        file: the `.xml` file.
        weights: the `.bin` file.
        name: the file as the user knows it, for errors; None: `file`.
        precision: in which it computes, 'f32' or 'bf16'.

    Raises:
        CompSRTError: if openvino is missing or cannot load the model.
    """

    def __init__(
        self, file: Path, weights: Path | None = None, name: Path | None = None, precision: str = 'f32'
    ) -> None:
        openvino = _library()
        self._name = name or file
        options = {'INFERENCE_NUM_THREADS': torch.get_num_threads(), 'INFERENCE_PRECISION_HINT': precision}
        with engine_errors('openvino', self._name), signal_stack_kept():
            core = openvino.Core()
            model = core.read_model(str(file), str(weights or file.with_suffix('.bin')))
            self._model = core.compile_model(model, 'CPU', options)

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Returns the outputs, like ONNX Runtime.

        Raises:
            CompSRTError: if OpenVINO cannot compute them.
        """
        with engine_errors('openvino', self._name):
            return list(self._model(inputs[INPUT]).values())
