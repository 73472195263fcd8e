"""Atomic file writes: a name holds either its old content or all of the new one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from compsrt_basicsr.utils.disk_space import is_disk_full

_LONGEST_SUFFIX = 16  # characters; a longer one is part of a title, and the temporary name must not become too long


@contextmanager
def atomic_path(file: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path to write to; when the block ends without an error, it replaces `file`.

    The temporary file is hidden, lies beside `file`, ends like it (some libraries choose the format by the suffix), and
    has the permissions of a plainly opened file. After an error it is removed, and `file` is as it was.

    Args:
        file: the file to write; its folder must exist.

    Yields:
        The temporary path of an empty file. Whoever writes there may replace that file, but must leave one.

    Raises:
        OSError: the file cannot be written; the error names `file`.
    """
    target = Path(file)
    temporary = target.with_name(f'.{secrets.token_hex(6)}{target.suffix[:_LONGEST_SUFFIX]}')
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        with open(temporary, 'rb+') as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if error.filename == str(temporary) or (error.filename is None and is_disk_full(error)):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    finally:
        with suppress(OSError):  # after a replacement there is nothing left to remove
            temporary.unlink()


def write_bytes(file: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file atomically.

    Raises:
        OSError: the file cannot be written; what stood there is untouched.
    """
    with atomic_path(file) as temporary:
        temporary.write_bytes(data)


def write_text(file: str | os.PathLike[str], text: str) -> None:
    """Writes a file atomically, in UTF-8 and with the line ends of `text`.

    Raises:
        OSError: the file cannot be written; what stood there is untouched.
    """
    write_bytes(file, text.encode())
