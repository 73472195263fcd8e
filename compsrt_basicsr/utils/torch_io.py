"""Reading checkpoints with clear faults, and writing them so that a crash never leaves half a file."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch

from compsrt_basicsr.errors import CompSRTError

# What torch.load raises on damaged bytes, by format: zip archive, legacy pickle, something else entirely.
_DAMAGE = (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError, IndexError, AttributeError, TypeError)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a `.pth` or `.state` file onto the CPU, tensors and plain data only.

    Args:
        path: The file.

    Returns:
        The dictionary stored in it.

    Raises:
        CompSRTError: The file is missing, unreadable, truncated, or holds no dictionary of plain data.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise CompSRTError(f'The checkpoint `{path}` does not exist: check the path.')
    try:
        with open(path, 'rb') as stream:
            loaded = torch.load(stream, map_location='cpu', weights_only=True)
    except (OSError, *_DAMAGE) as error:
        # A cut zip archive can make torch seek before the file's start, which is EINVAL.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise CompSRTError(f'The checkpoint `{path}` cannot be read: {error.strerror or error}.') from error
        raise CompSRTError(
            f'The checkpoint `{path}` is truncated or no PyTorch checkpoint of plain tensors: '
            'copy or download it again, or use an earlier one.'
        ) from error
    if not isinstance(loaded, dict):
        raise CompSRTError(
            f'The checkpoint `{path}` holds a {type(loaded).__name__} where a dictionary is expected: '
            'use a `.pth` or `.state` file written by BasicSR.'
        )
    return loaded


def atomic_save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Saves with `torch.save` so that `path` holds either the old file or the whole new one.

    Args:
        obj: What to save.
        path: The file; its folder must exist.

    Raises:
        CompSRTError: The file could not be written; what stood at `path` is untouched.
    """
    target = Path(path)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f'.{target.name}.', suffix='.tmp')
        with os.fdopen(descriptor, 'wb') as stream:
            torch.save(obj, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, _usual_mode())
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:
        raise CompSRTError(
            f'Could not write `{target}` ({_reason(error)}): is the disk full? The previous checkpoint is untouched; '
            'free some space and resume.'
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):  # after a successful replace there is nothing left to remove
                os.unlink(temporary)


def _usual_mode() -> int:
    """Returns the permissions a plain `open` would give; mkstemp gives 0600, which locks colleagues out."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _reason(error: Exception) -> str:
    """Returns the first line of what went wrong."""
    text = getattr(error, 'strerror', None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip('.')
