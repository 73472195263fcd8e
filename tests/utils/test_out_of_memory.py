"""A lack of memory is recognised, whoever reports it, and nothing else is."""

from __future__ import annotations

import errno
import sys

import pytest

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.out_of_memory import OutOfMemory, is_out_of_memory, memory_for

# Allocates in each library more than the process may have, and prints what is not recognised.
REAL = """
import resource, tempfile
import cv2, lmdb, numpy as np, onnxruntime, torch
from onnx import TensorProto, helper
from PIL import Image
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

value = helper.make_tensor_value_info
graph = helper.make_graph([helper.make_node('Expand', ['x', 's'], ['y'])], 'g', [
    value('x', TensorProto.FLOAT, [1]), value('s', TensorProto.INT64, [1])], [value('y', TensorProto.FLOAT, [None])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8).SerializeToString()
session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
square = np.zeros((4000, 4000), np.uint8)
tries = {
    'python': lambda: bytearray(2**30),
    'numpy': lambda: np.ones(2**30, np.uint8),
    'torch': lambda: torch.ones(2**28),
    'convolution': lambda: torch.nn.functional.conv2d(torch.ones(1, 1, 2000, 2000), torch.ones(128, 1, 3, 3)),
    'opencv': lambda: cv2.resize(square, (40000, 40000)),
    'pillow': lambda: Image.fromarray(square).resize((40000, 40000)),
    'onnxruntime': lambda: session.run(None, {'x': np.zeros(1, np.float32), 's': np.array([2**28])}),
    'lmdb': lambda: lmdb.open(tempfile.mkdtemp(), map_size=2**31),
}
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29,) * 2)
for name, allocate in tries.items():
    try:
        allocate()
    except Exception as error:
        if is_out_of_memory(error):
            continue
    print(name)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='the limit is that of Linux')
def test_errors_of_the_libraries(run_command, tmp_path):
    done = run_command(['python', '-c', REAL], tmp_path)
    assert (done.returncode, done.stdout) == (0, ''), done.stderr


def caused(error: Exception, cause: BaseException, explicit: bool) -> Exception:
    """Returns an error with a cause, or one that came while another was handled."""
    try:
        try:
            raise cause
        except BaseException as first:
            if explicit:
                raise error from first
            raise error  # noqa: B904
    except Exception as raised:
        return raised


@pytest.mark.parametrize(
    'error',
    [
        RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`'),
        RuntimeError('[enforce fail] not enough memory: you tried to allocate 8 bytes.'),
        RuntimeError('std::bad_alloc'),
        OSError(errno.ENOMEM, 'Cannot allocate memory'),
        ImportError('libx.so: failed to map segment from shared object: Cannot allocate memory'),
        caused(CompSRTError('`a.pth` does not fit.'), MemoryError(), True),
        caused(KeyError('x'), MemoryError(), False),
    ],
)
def test_recognised(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    'error',
    [
        None,
        RuntimeError('shape mismatch'),
        FileNotFoundError(errno.ENOENT, 'No such file', 'out of memory.png'),
        CompSRTError('`out of memory.png` does not exist.'),
        ImportError('libgomp.so.1: cannot allocate memory in static TLS block'),
        KeyboardInterrupt(),
    ],
)
def test_not_recognised(error):
    assert not is_out_of_memory(error)


def test_one_sentence_that_names_the_innermost_thing():
    with pytest.raises(OutOfMemory, match=r'^`b` needs'), memory_for('`a`', 'wait'), memory_for('`b`', 'cut it'):
        raise MemoryError
    with pytest.raises(ValueError), memory_for('`a`', 'wait'):
        raise ValueError
