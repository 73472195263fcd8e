"""One file from the network to the disk: resumed, retried, locked, and verified before it gets its name."""

from __future__ import annotations

import os
from pathlib import Path

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.checksum import record_checksum, sha256_of, verify
from compsrt_basicsr.hub.home import OFFLINE, offline
from compsrt_basicsr.hub.source import Source
from compsrt_basicsr.hub.transfer import discard, length, transfer
from compsrt_basicsr.utils.disk_space import is_disk_full, require_space
from compsrt_basicsr.utils.lock import locked
from compsrt_basicsr.utils.log import logger
from compsrt_basicsr.utils.progress import BYTES, SILENT, Progress


def download(
    source: Source,
    target: Path,
    *,
    what: str,
    progress: Progress = SILENT,
) -> str:
    """Fetches a file unless it is there already.

    The bytes are collected in `TARGET.part`, which an interrupted download leaves and the next one continues; the file
    gets its name only when size and checksum are right. A second process waits for the first. Where no checksum is
    known, the one found is written to `TARGET.sha256`, in the form of `sha256sum`; later downloads must have the same.

    Args:
        source: addresses, size and checksum.
        target: the file to make; its folder is made if missing.
        what: name of the thing, for messages.
        progress: display of the bytes.

    Returns:
        SHA-256 of the file, in hexadecimal.

    Raises:
        CompSRTError: if no address gives the right file, the disk is full, or the network is forbidden. What was
            received is kept where it is of use.
    """
    if target.exists():  # complete, so no lock is needed: the folder may be read-only
        return verify(source, target, what=what)
    with locked(target.with_name(f'.{target.name}.lock'), f'`{target}`', waiting=logger.warning):
        if target.exists():
            return verify(source, target, what=what)
        if not source.urls:
            raise CompSRTError(f'No address is known for {what}: put the file at `{target}`.')
        if offline():
            raise CompSRTError(
                f'${OFFLINE} forbids the network and {what} is not on this machine: fetch {source.urls[0]} elsewhere '
                f'and put it at `{target}`.'
            )
        part = target.with_name(f'{target.name}.part')
        if source.size is not None:
            require_space(target.parent, source.size - length(part), f'Downloading {what}')
        try:
            digest = _from_any(source, part, what, progress)
            if source.sha256 is None:
                record_checksum(target, digest)
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise CompSRTError(
                f'The disk that holds `{target.parent}` is full: free some space and give the same command again; '
                f'what was received of {what} is kept.'
            ) from error
        os.replace(part, target)
        discard(part)
    return digest


def _from_any(source: Source, part: Path, what: str, progress: Progress) -> str:
    """Fills `part` from the first address that gives the right bytes; returns their checksum."""
    from compsrt_basicsr.hub.answer import Refused

    reasons = []
    for url in source.urls:
        try:
            resumed = length(part) > 0
            digest = _fetch(url, source, part, what, progress)
            if resumed and source.sha256 not in (None, digest):  # the error may be in what was here before
                discard(part)
                digest = _fetch(url, source, part, what, progress)
        except Refused as refusal:
            reasons.append(f'{url} {refusal}')
            continue
        if source.sha256 in (None, digest):
            return digest
        discard(part)
        reasons.append(f'{url} gave a file whose SHA-256 is {digest}, not {source.sha256}')
    target = part.with_name(part.name.removesuffix('.part'))
    raise CompSRTError(
        f'Could not download {what}: {"; ".join(reasons)}. Give the command again later, or put the file at `{target}`.'
    )


def _fetch(url: str, source: Source, part: Path, what: str, progress: Progress) -> str:
    verified = source.sha256 is not None
    transfer(url, part, source.size, verified, lambda total, start: progress.start(what, total, BYTES, start))
    return sha256_of(part)
