"""PyTorch's files: read safely, with clear errors, and written atomically."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from compsrt_basicsr.errors import CompSRTError, first_line
from compsrt_basicsr.utils.atomic_write import atomic_path
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

# What torch.load raises on damaged bytes, by format: zip archive, legacy pickle, something else entirely.
_DAMAGE = (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError, IndexError, AttributeError, TypeError)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a `.pth` or `.state` file onto the CPU: tensors and plain data only, no code.

    Args:
        path: the file.

    Returns:
        The dictionary stored in it.

    Raises:
        CompSRTError: if the file is missing, unreadable or truncated, or holds no dictionary of plain data.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise CompSRTError(f'The checkpoint `{path}` does not exist: check the path.')
    try:
        with open(path, 'rb') as stream:
            loaded = torch.load(stream, map_location='cpu', weights_only=True)
    except (OSError, *_DAMAGE) as error:
        if is_out_of_memory(error):
            raise
        # A truncated zip archive can make torch seek before the start of the file, which is EINVAL.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise CompSRTError(f'The checkpoint `{path}` cannot be read: {error.strerror or error}.') from error
        raise CompSRTError(
            f'The checkpoint `{path}` is truncated or is not a PyTorch checkpoint of plain tensors: '
            'copy or download it again, or use an earlier one.'
        ) from error
    if not isinstance(loaded, dict):
        raise CompSRTError(
            f'The checkpoint `{path}` holds a {type(loaded).__name__} where a dictionary is expected: '
            'use a `.pth` or `.state` file written by BasicSR.'
        )
    return loaded


def atomic_save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Saves with `torch.save`, atomically: `path` holds either the old file or all of the new one.

    Args:
        obj: what to save.
        path: the file; its folder must exist.

    Raises:
        CompSRTError: if the file cannot be written; what stood at `path` is untouched.
    """
    target = Path(path)
    try:
        with atomic_path(target) as temporary, temporary.open('wb') as stream:
            torch.save(obj, stream)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError for a full disk
        if is_out_of_memory(error):
            raise
        text = getattr(error, 'strerror', None) or first_line(error)
        if text.startswith('[enforce fail'):  # torch's own code, which only counts the bytes that are missing
            text = 'not all of it could be written'
        raise CompSRTError(
            f'Could not write `{target}` ({text}): is the disk full? The previous '
            'checkpoint is untouched; free some space and resume.'
        ) from error
