"""One file from the network to the disk: resumed, retried, locked, and verified before it gets its name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import filelock
import requests

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.home import OFFLINE, offline
from compsrt_basicsr.hub.source import Source
from compsrt_basicsr.hub.transfer import Refused, discard, length, transfer

# (what is fetched, bytes in all or None, bytes already here) -> context of a function that is told of new bytes
ByteProgress = Callable[[str, 'int | None', int], AbstractContextManager[Callable[[int], None]]]


@contextlib.contextmanager
def silent(what: str, total: int | None, start: int):
    """The progress display that shows nothing."""
    yield lambda count: None


def download(
    source: Source,
    target: Path,
    *,
    what: str,
    progress: ByteProgress = silent,
    session: requests.Session | None = None,
) -> str:
    """Fetches a file unless it is there already.

    The bytes are gathered in `TARGET.part`, which an interrupted download leaves and the next one continues; the file
    gets its name only when size and checksum are right. A second process waits for the first. Where no checksum is
    known, the one found is written to `TARGET.sha256`, in the form of `sha256sum`, and holds from then on.

    Args:
        source: addresses, size and checksum.
        target: the file to make; its folder is made if missing.
        what: name of the thing, for messages.
        progress: display of the bytes.
        session: a session of `requests` to use, for proxies and the like.

    Returns:
        SHA-256 of the file, in hexadecimal.

    Raises:
        CompSRTError: no address gave the right file, the disk is full, or the network is forbidden; what was received
            is kept where it is of use.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_name(f'.{target.name}.lock')):
        if target.exists():
            return verify(source, target, what=what)
        if not source.urls:
            raise CompSRTError(f'{what} has no address: put it at `{target}`.')
        if offline():
            raise CompSRTError(
                f'{what} is not on this machine and ${OFFLINE} forbids the network: fetch {source.urls[0]} elsewhere '
                f'and put it at `{target}`.'
            )
        part = target.with_name(f'{target.name}.part')
        _require_space(source, part, what)
        try:
            digest = _from_any(source, part, what, progress, session or requests.Session())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise CompSRTError(
                f'The disk that holds `{target.parent}` is full: free some space and give the same command again; '
                f'what was received of {what} is kept.'
            ) from error
        if source.sha256 is None:
            record = target.with_name(f'{target.name}.sha256')
            record.write_text(f'{digest}  {target.name}\n', encoding='utf-8')
        os.replace(part, target)
        discard(part)
    return digest


def verify(source: Source, target: Path, *, what: str) -> str:
    """Compares a file with its size and checksum, the known or the recorded one.

    Returns:
        SHA-256 of the file, in hexadecimal.

    Raises:
        CompSRTError: the file differs.
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
    """The checksum noted at a first download, or None."""
    try:
        text = target.with_name(f'{target.name}.sha256').read_text(encoding='utf-8')
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return text.split()[0] if text.split() else None


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open('rb') as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _from_any(source: Source, part: Path, what: str, progress: ByteProgress, session: requests.Session) -> str:
    """Fills `part` from the first address that gives the right bytes; returns their checksum."""
    reasons = []
    for url in source.urls:
        try:
            resumed = length(part) > 0
            digest = _fetch(url, source, part, what, progress, session)
            if resumed and source.sha256 not in (None, digest):  # the fault may be in what was here before
                discard(part)
                digest = _fetch(url, source, part, what, progress, session)
        except Refused as refusal:
            reasons.append(f'{url} {refusal}')
            continue
        if source.sha256 in (None, digest):
            return digest
        discard(part)
        reasons.append(f'{url} gave a file whose SHA-256 is {digest}, not {source.sha256}')
    target = part.with_name(part.name.removesuffix('.part'))
    raise CompSRTError(
        f'{what} could not be downloaded: {"; ".join(reasons)}. Give the command again later, or put the file at '
        f'`{target}`.'
    )


def _fetch(url: str, source: Source, part: Path, what: str, progress: ByteProgress, session: requests.Session) -> str:
    verified = source.sha256 is not None
    transfer(url, part, source.size, verified, lambda total, start: progress(what, total, start), session)
    return sha256_of(part)


def _require_space(source: Source, part: Path, what: str) -> None:
    if source.size is None:
        return
    have = length(part)
    free = shutil.disk_usage(part.parent).free
    if free < source.size - have:
        raise CompSRTError(
            f'{what} needs {source.size - have:,} bytes more and the disk that holds `{part.parent}` has {free:,} '
            'free: free some space and give the command again.'
        )
