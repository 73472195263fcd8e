"""A lack of memory, however a library reports it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from compsrt_basicsr.errors import CompSRTError

# What torch (on CPUs and GPUs), OpenCV, Pillow, ONNX Runtime, LMDB, safetensors and the dynamic linker write.
_WORDS = (
    'out of memory',
    'out_of_memory',
    "can't allocate memory",
    'cannot allocate memory',
    'not enough memory',
    'insufficient memory',
    'failed to allocate',
    'unable to allocate',
    'bad_alloc',
    'bad allocation',
    'alloc_failed',
)
_NOT = 'static tls block'  # "cannot allocate memory in static TLS block" comes of the order of imports
_DEEPEST = 20  # causes that are followed


class OutOfMemory(CompSRTError):
    """Memory ran out. The sentence names what needed it."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Returns whether an error, or what caused it, is a lack of memory in Python, NumPy, torch, OpenCV and so on.

    An error of this package counts by its cause only, since its sentence may hold any name.
    """
    for _ in range(_DEEPEST):
        if error is None:
            return False
        if _says_so(error):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


@contextmanager
def memory_for(what: str, remedy: str) -> Iterator[None]:
    """Turns a lack of memory inside the context into one sentence, unless that has been done already.

    Args:
        what: start of the sentence, such as '`a.png`'.
        remedy: end of the sentence, such as 'take a smaller image'.

    Raises:
        OutOfMemory: memory ran out. Other errors pass unchanged.
    """
    try:
        yield
    except Exception as error:  # each library has its own class
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        raise OutOfMemory(f'{what} needs more memory than is free: {remedy}.') from error


def _says_so(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, OutOfMemory)):
        return True
    if isinstance(error, CompSRTError) or not isinstance(error, Exception):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return any(word in text for word in _WORDS) and _NOT not in text
