"""One run of a name at a time: BasicSR archives the folder of a running one, and both write into the new folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from os import path as osp
from pathlib import Path
from typing import Any

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.atomic_write import clear_leftovers
from compsrt_basicsr.utils.lock import Busy, locked

_pipeline: ContextVar[ExitStack] = ContextVar('pipeline')


def run_pipeline(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs BasicSR's training or test; the lock of its name, taken once the options are read, is released at the end.

    Args:
        original: `train_pipeline` or `test_pipeline`.
        args: Its arguments.
        kwargs: Its arguments.
    """
    with ExitStack() as stack:
        token = _pipeline.set(stack)
        try:
            return original(*args, **kwargs)
        finally:
            _pipeline.reset(token)


def parse_options(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Parses the options, then locks the run's name, before anything is renamed or made.

    The first process of a distributed run takes the lock; the others learn whether it got it, and end with it.

    Args:
        original: `parse_options`.
        args: Its arguments.
        kwargs: Its arguments.

    Returns:
        What `original` returns.

    Raises:
        Busy: If another process trains or tests under this name.
        OSError: If the folder of the runs cannot be written to.
    """
    parsed = original(*args, **kwargs)
    stack = _pipeline.get(None)
    if stack is not None:
        _lock_run(parsed[0], stack)
    return parsed


def _lock_run(opt: Any, stack: ExitStack) -> None:
    path = opt['path']
    root = Path(path.get('experiments_root') or path['results_root'])
    failure: Exception | None = None
    if opt['rank'] == 0:
        try:
            stack.enter_context(locked(root.with_name(f'.{root.name}.lock'), f'`{root}`'))
        except Busy as error:
            failure = Busy(f'{error} Or give this run another `name`.')
        except OSError as error:
            failure = error
    if opt['dist']:
        text = _from_first(str(failure) if failure else None)
        failure = failure or (CompSRTError(text) if text else None)
    if failure is not None:
        raise failure
    if opt['rank'] == 0:
        for folder in (root, path.get('models'), path.get('training_states')):
            if folder is not None:
                clear_leftovers(folder)


def _from_first(text: str | None) -> str | None:
    """Returns the text of the first process, on all of them."""
    import torch.distributed as dist

    texts = [text]
    dist.broadcast_object_list(texts)
    return texts[0]


def rename_folder(original: Callable[[str], None], path: str) -> None:
    """Archives a folder and makes it anew; waits until the archive's name, which ends in the second, is free.

    Args:
        original: BasicSR's `mkdir_and_rename`.
        path: The folder.
    """
    from basicsr.utils import get_time_str

    while osp.exists(path) and osp.exists(f'{path}_archived_{get_time_str()}'):
        time.sleep(0.05)
    original(path)
