"""Whatever an engine raises becomes one sentence with its name and that of the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.onnx.engines import ONNXRuntimeSession, Session, engine_errors
from compsrt_basicsr.onnx.openvino import OpenVINOSession, convert


def model() -> ModelProto:
    """Takes matrices of 15 numbers only."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None]) for name in ('input', 'output'))
    sides = helper.make_tensor('sides', TensorProto.INT64, [2], [3, 5])
    graph = helper.make_graph([helper.make_node('Reshape', ['input', 'sides'], ['output'])], 'g', [x], [y], [sides])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)


def opened(engine: str, folder: Path) -> Session:
    if engine == 'ONNX Runtime':
        return ONNXRuntimeSession(model().SerializeToString(), folder / 'n.onnx')
    pytest.importorskip('openvino')
    convert(model(), folder / 't.xml', folder / 't.weights', folder / 'n.onnx')
    return OpenVINOSession(folder / 't.xml', folder / 't.weights', folder / 'n.onnx')


@pytest.mark.parametrize('engine', ['ONNX Runtime', 'OpenVINO'])
def test_an_image_that_fails(engine: str, tmp_path: Path) -> None:
    session = opened(engine, tmp_path)
    with pytest.raises(CompSRTError) as caught:
        session.run(None, {'input': np.zeros((2, 2, 2), np.float32)})
    message = str(caught.value)
    assert engine in message and f'`{tmp_path / "n.onnx"}`' in message and len(message.splitlines()) == 1


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    file = tmp_path / 'n.onnx'
    file.write_bytes(b'no model')
    with pytest.raises(CompSRTError, match=r'ONNX Runtime.*n\.onnx'):
        ONNXRuntimeSession(file)
    pytest.importorskip('openvino')
    (tmp_path / 'n.xml').write_text('<net')
    (tmp_path / 'n.bin').write_bytes(b'')
    with pytest.raises(CompSRTError, match=r'OpenVINO.*n\.xml'):
        OpenVINOSession(tmp_path / 'n.xml')


def test_a_lack_of_memory_passes() -> None:
    with pytest.raises(MemoryError), engine_errors('onnxruntime', None):
        raise MemoryError


def test_signals_arrive_after_models_of_openvino_have_gone(tmp_path: Path) -> None:
    """Every model maps a stack for signals; none may leave one behind that is unmapped."""
    pytest.importorskip('openvino')
    convert(model(), tmp_path / 't.xml', tmp_path / 't.bin', tmp_path / 'n.onnx')
    code = f"""
import faulthandler, os, pathlib, signal
from compsrt_basicsr.onnx.openvino import OpenVINOSession
faulthandler.enable()
signal.signal(signal.SIGUSR1, lambda *_: print('arrived'))
sessions = [OpenVINOSession(pathlib.Path({str(tmp_path / 't.xml')!r})) for _ in range(2)]
while sessions:
    sessions.pop(0)  # the older first
os.kill(os.getpid(), signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, 'arrived\n'), done.stderr
