"""The message of a command that fails: one sentence where the user can fix it, else the traceback.

`error_rules` recognises errors of BasicSR, torch, OpenCV and the system; `stage` adds what was being done. An error
that no rule recognises is an error of a program, and keeps its traceback.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from compsrt_basicsr.basicsr_compat.error_rules import Rule, explain
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.disk_space import is_disk_full
from compsrt_basicsr.utils.out_of_memory import OutOfMemory, is_out_of_memory

_WORKER_TRACEBACK = f'{CompSRTError.__module__}.{CompSRTError.__name__}: '


def sentence(error: BaseException) -> str | None:
    """Returns the sentence for an error that the user can fix, or None for an error of the program.

    Args:
        error: What ended the command.
    """
    if is_out_of_memory(error) and not isinstance(error, OutOfMemory):
        return 'Out of memory: lower `batch_size_per_gpu` or `gt_size`, or use smaller images.'
    if isinstance(error, CompSRTError):
        # From a DataLoader worker it comes with the worker's traceback as its message.
        return str(error).rsplit(_WORKER_TRACEBACK, 1)[-1].strip()
    if isinstance(error, OSError) and is_disk_full(error):
        place = f' while writing `{error.filename}`' if error.filename else ''
        return f'The disk is full{place}: free some space and resume with --auto_resume.'
    text = explain(error) if isinstance(error, Exception) else None
    return text and text[0].upper() + text[1:]


@contextlib.contextmanager
def stage(culprit: str, *rules: Rule) -> Iterator[None]:
    """Turns an error of the block that a rule recognises into a sentence about a culprit.

    Args:
        culprit: What the block works on, such as 'The data set `Set5`'.
        rules: Rules of this stage alone, which come before those of every stage; each returns what is wrong and what
            helps, or None.

    Raises:
        CompSRTError: For such an error.
    """
    try:
        yield
    except CompSRTError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        text = next((text for rule in (*rules, explain) if (text := rule(error))), None)
        if text is None:
            raise
        raise CompSRTError(f'{culprit}: {text}') from error
