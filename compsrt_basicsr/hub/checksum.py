"""Files compared with what they must be."""

from __future__ import annotations

import hashlib
from pathlib import Path

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.source import Source
from compsrt_basicsr.utils.atomic_write import write_text


def sha256_of(file: Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: if the file cannot be read.
    """
    digest = hashlib.sha256()
    with file.open('rb') as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def verify(source: Source, target: Path, *, what: str) -> str:
    """Compares a file with its size and checksum, the known or the recorded one.

    Args:
        source: size and checksum, where they are known.
        target: the file.
        what: name of the thing, for messages.

    Returns:
        SHA-256 of the file, in hexadecimal.

    Raises:
        CompSRTError: if the file differs.
    """
    expected = source.sha256 or recorded_checksum(target)
    size = target.stat().st_size
    if source.size is not None and size != source.size:
        raise CompSRTError(
            f'`{target}` has {size:,} bytes, {what} has {source.size:,}: remove the file and give the command again.'
        )
    digest = sha256_of(target)
    if expected is not None and digest != expected:
        raise CompSRTError(
            f'`{target}` is not {what}: its SHA-256 is {digest}, not {expected}; remove the file and give the command '
            'again.'
        )
    return digest


def recorded_checksum(target: Path) -> str | None:
    """Returns the checksum that the first download recorded beside a file, or None."""
    try:
        text = _record(target).read_text(encoding='utf-8')
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return text.split()[0] if text.split() else None


def record_checksum(target: Path, digest: str) -> None:
    """Records a checksum beside a file, as `sha256sum` writes it."""
    write_text(_record(target), f'{digest}  {target.name}\n')


def _record(target: Path) -> Path:
    return target.with_name(f'{target.name}.sha256')
