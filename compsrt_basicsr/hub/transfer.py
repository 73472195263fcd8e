"""The bytes of one address, through interruptions."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from compsrt_basicsr.utils.progress import Bar

if TYPE_CHECKING:
    import requests

    from compsrt_basicsr.hub.answer import Answer

ATTEMPTS = 5  # in a row that were of no use
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 120.0  # seconds between attempts; it doubles
_BLOCK = 2**18
_VALIDATOR = re.compile('[!-~][ -~]{0,999}')  # what may be sent back in a header

Start = Callable[['int | None', int], AbstractContextManager[Bar]]


def transfer(url: str, part: Path, size: int | None, verified: bool, start_bar: Start) -> None:
    """Fetches an address into a file, going on from what the file holds.

    Args:
        url: the address.
        part: the file; beside it lies `PART.json`, which remembers what it is a part of.
        size: bytes expected, or None.
        verified: whether the caller checks the whole file. If not, what is there is continued only where the server
            vouches that it is of the same file (ETag or Last-Modified, sent back as If-Range).
        start_bar: starts a display, given the bytes in all, if known, and the bytes already here.

    Raises:
        Refused: if the address does not give the file, or not now.
    """
    from compsrt_basicsr.hub.answer import Interrupted, Refused

    failures, pause = 0, FIRST_PAUSE
    before, since = length(part), time.monotonic()
    while True:
        try:
            _attempt(url, part, size, verified, start_bar)
            return
        except Interrupted as interruption:
            if _is_progress(length(part) - before, time.monotonic() - since):
                failures, pause = 0, FIRST_PAUSE
            else:
                failures += 1
            if failures >= ATTEMPTS:
                raise Refused(f'{interruption}, {ATTEMPTS} times in a row') from interruption
            wait = pause if interruption.pause is None else interruption.pause
            if wait > LONGEST_PAUSE:
                raise Refused(f'{interruption} and asks for a pause of {wait:.0f} s') from interruption
            before, since = length(part), time.monotonic()
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)


def _is_progress(gained: int, seconds: float) -> bool:
    """Tells whether an attempt that broke off was of use: one that gains a byte must not be repeated for ever."""
    from compsrt_basicsr.hub import guard

    return gained > guard.LEAST_SPEED * seconds


def discard(part: Path) -> None:
    """Removes a part and the note of what it is a part of."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def length(part: Path) -> int:
    """Returns the bytes of a file, 0 if there is none."""
    return part.stat().st_size if part.exists() else 0


def _attempt(url: str, part: Path, size: int | None, verified: bool, start_bar: Start) -> None:
    """Makes one request; returns when the file is complete."""
    from compsrt_basicsr.hub.answer import answer

    start, validator = _resumable(url, part, verified)
    if start and start == size:
        return
    headers = {'Accept-Encoding': 'identity'}
    if start:
        headers['Range'] = f'bytes={start}-'
    if start and validator:
        headers['If-Range'] = validator
    with answer(url, headers, verified) as received:
        _receive(received, url, part, start, size, start_bar)


def _receive(received: Answer, url: str, part: Path, start: int, size: int | None, start_bar: Start) -> None:
    from compsrt_basicsr.hub.answer import Interrupted, Refused, content_length

    response = received.response
    if response.status_code == 416 and response.headers.get('Content-Range') == f'bytes */{start}':
        return  # nothing is missing
    start = _begin_at(response, part, start)
    expected = content_length(response)
    total = start + expected if expected is not None else size
    if size is not None and total != size:
        raise Refused(f'offers {total:,} bytes where {size:,} are expected')
    _remember(part, url, response)
    with start_bar(total, start) as bar, part.open('r+b' if start else 'wb') as stream:
        stream.seek(start)
        have = start
        # what has arrived, as it is: a `.tar.gz` sent as compressed content stays compressed
        while block := response.raw.read1(_BLOCK, decode_content=False):
            received.note(len(block))
            have += len(block)
            if total is not None and have > total:
                stream.truncate(0)
                raise Refused(f'sends more than the {total:,} bytes it should')
            stream.write(block)
            bar.update(len(block))
    if total is not None and have < total:
        raise Interrupted(f'broke off after {have:,} of {total:,} bytes')


def _begin_at(response: requests.Response, part: Path, start: int) -> int:
    """Returns where the body belongs: at `start` for a part, at 0 for the whole.

    Raises:
        Interrupted, Refused: if the status is not a success.
    """
    from compsrt_basicsr.hub.answer import Interrupted, require_success

    status = response.status_code
    if status == 206 and start and response.headers.get('Content-Range', '').startswith(f'bytes {start}-'):
        return start
    if status in (206, 416):  # another part than the one asked for, or none: what is here is of no use
        discard(part)
        raise Interrupted(f'answers {status} with another range than the one asked for')
    require_success(response)
    return 0


# What a part is a part of


def _note(part: Path) -> Path:
    return part.with_name(f'{part.name}.json')


def _remember(part: Path, url: str, response: requests.Response) -> None:
    etag = response.headers.get('ETag', '')
    validator = etag if etag and not etag.startswith('W/') else response.headers.get('Last-Modified')
    _note(part).write_text(json.dumps({'url': url, 'validator': validator}), encoding='utf-8')


def _resumable(url: str, part: Path, verified: bool) -> tuple[int, str | None]:
    """Returns the bytes that may be continued, and the validator to send, if there is one for this address."""
    try:
        note = json.loads(_note(part).read_text(encoding='utf-8'))
        validator = note['validator'] if note['url'] == url else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        validator = None
    if not isinstance(validator, str) or not _VALIDATOR.fullmatch(validator):
        validator = None
    return (length(part), validator) if verified or validator else (0, None)
