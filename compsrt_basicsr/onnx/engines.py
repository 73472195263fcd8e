"""Sessions of engines, and what the engines raise as one sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
import torch

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

# By package: the name of the engine, and the line of its messages that says what happened.
_ENGINES = {'onnxruntime': ('ONNX Runtime', 0), 'openvino': ('OpenVINO', -1)}
_LONGEST = 200  # characters of a message
_FATAL = 4  # of what ONNX Runtime logs; it raises its errors as well


class Session(Protocol):
    """A loaded model."""

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Returns the outputs."""


@contextmanager
def engine_errors(package: str, file: Path | None, verb: str = 'run') -> Iterator[None]:
    """Turns whatever an engine raises inside the context into one sentence.

    Args:
        package: of the engine, which is imported.
        file: the file, as the user knows it; None: a model without one.
        verb: what the engine is to do with it.

    Raises:
        CompSRTError: the engine raised an error. A lack of memory passes unchanged.
    """
    try:
        yield
    except CompSRTError:
        raise
    except Exception as error:  # of any kind: those of engines have no common base class
        if is_out_of_memory(error):
            raise
        engine, index = _ENGINES[package]
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = lines[index][:_LONGEST].rstrip('.')
        what = 'the model' if file is None else f'`{file}`'
        raise CompSRTError(
            f'{engine} {sys.modules[package].__version__} cannot {verb} {what} ({reason}): '
            f'run `python -m pip install --upgrade {package}`, or please report this.'
        ) from error


class ONNXRuntimeSession:
    """A model of ONNX Runtime with default options, except that it uses as many threads as torch.

    Args:
        model: a file, or its content.
        name: the file as the user knows it, for errors; None: that of `model`, if it is one.

    Raises:
        CompSRTError: if the installed ONNX Runtime cannot load the model.
    """

    def __init__(self, model: Path | bytes, name: Path | None = None) -> None:
        self._name = name or (model if isinstance(model, Path) else None)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = _FATAL
        with engine_errors('onnxruntime', self._name):
            self._session = onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Returns the outputs.

        Raises:
            CompSRTError: if ONNX Runtime cannot compute them.
        """
        with engine_errors('onnxruntime', self._name):
            results: Sequence[np.ndarray] = self._session.run(outputs, inputs)
        return results
