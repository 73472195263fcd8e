"""The bytes of one address, through interruptions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from compsrt_basicsr.utils.progress import Bar

if TYPE_CHECKING:
    import requests

ATTEMPTS = 5  # in a row without a new byte
CONNECT_TIMEOUT, READ_TIMEOUT = 15.0, 30.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 120.0  # seconds between attempts; it doubles
_BLOCK = 2**18
_RETRIED = (408, 425, 429, 500, 502, 503, 504)

Start = Callable[['int | None', int], AbstractContextManager[Bar]]


class Refused(Exception):
    """An address does not give the file; the text is the end of a sentence that starts with the address."""


class _Interrupted(Exception):
    """A failed attempt that may be repeated, after `pause` seconds if the server said so."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


def transfer(
    url: str, part: Path, size: int | None, verified: bool, start_bar: Start, session: requests.Session
) -> None:
    """Fetches an address into a file, going on from what the file holds.

    Args:
        url: the address.
        part: the file; beside it lies `PART.json`, which remembers what it is a part of.
        size: bytes expected, or None.
        verified: whether the caller checks the whole file. If not, what is there is continued only where the server
            vouches that it is of the same file (ETag or Last-Modified, sent back as If-Range).
        start_bar: starts a display, given the bytes in all, if known, and the bytes already here.
        session: the session to use.

    Raises:
        Refused: if the address does not give the file, or not now.
    """
    failures, pause = 0, FIRST_PAUSE
    while True:
        before = length(part)
        try:
            _attempt(url, part, size, verified, start_bar, session)
            return
        except _Interrupted as interruption:
            failures, pause = (0, FIRST_PAUSE) if length(part) > before else (failures + 1, pause)
            if failures >= ATTEMPTS:
                raise Refused(f'{interruption}, {ATTEMPTS} times in a row') from interruption
            wait = pause if interruption.pause is None else interruption.pause
            if wait > LONGEST_PAUSE:
                raise Refused(f'{interruption} and asks for a pause of {wait:.0f} s') from interruption
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)


def discard(part: Path) -> None:
    """Removes a part and the note of what it is a part of."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def length(part: Path) -> int:
    """Returns the bytes of a file, 0 if there is none."""
    return part.stat().st_size if part.exists() else 0


def _attempt(
    url: str, part: Path, size: int | None, verified: bool, start_bar: Start, session: requests.Session
) -> None:
    """Makes one request; returns when the file is complete."""
    import requests
    from urllib3.exceptions import ProtocolError, ReadTimeoutError

    start, validator = _resumable(url, part, verified)
    if start and start == size:
        return
    headers = {'Accept-Encoding': 'identity'}
    if start:
        headers['Range'] = f'bytes={start}-'
    if start and validator:
        headers['If-Range'] = validator
    try:
        with session.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as response:
            _require_encryption(url, response)
            _receive(response, url, part, start, size, start_bar)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Interrupted(
            'does not answer in time' if isinstance(error, requests.Timeout) else 'cannot be reached'
        ) from error
    except (ReadTimeoutError, ProtocolError) as error:
        raise _Interrupted('stalls' if isinstance(error, ReadTimeoutError) else 'breaks off') from error
    except requests.RequestException as error:
        raise Refused(f'cannot be asked for ({type(error).__name__})') from error


def _receive(response: requests.Response, url: str, part: Path, start: int, size: int | None, start_bar: Start) -> None:
    if response.status_code == 416 and response.headers.get('Content-Range') == f'bytes */{start}':
        return  # nothing is missing
    start = _begin_at(response, part, start)
    expected = _content_length(response)
    total = start + expected if expected is not None else size
    if size is not None and total != size:
        raise Refused(f'offers {total:,} bytes where {size:,} are expected')
    _remember(part, url, response)
    with start_bar(total, start) as bar, part.open('r+b' if start else 'wb') as stream:
        stream.seek(start)
        have = start
        # what has arrived, as it is: a `.tar.gz` sent as compressed content stays compressed
        while block := response.raw.read1(_BLOCK, decode_content=False):
            have += len(block)
            if total is not None and have > total:
                stream.truncate(0)
                raise Refused(f'sends more than the {total:,} bytes it should')
            stream.write(block)
            bar.update(len(block))
    if total is not None and have < total:
        raise _Interrupted(f'broke off after {have:,} of {total:,} bytes')


def _begin_at(response: requests.Response, part: Path, start: int) -> int:
    """Returns where the body belongs: at `start` for a part, at 0 for the whole.

    Raises:
        _Interrupted, Refused: if the status is not a success.
    """
    status, reason = response.status_code, response.reason
    if status == 206 and start and response.headers.get('Content-Range', '').startswith(f'bytes {start}-'):
        return start
    if status in (206, 416):  # another part than the one asked for, or none: what is here is of no use
        discard(part)
        raise _Interrupted(f'answers {status} {reason} with another range than the one asked for')
    if status == 200:
        return 0
    if status in _RETRIED:
        raise _Interrupted(f'answers {status} {reason}', _retry_after(response))
    raise Refused(f'answers {status} {reason}')


def _content_length(response: requests.Response) -> int | None:
    text = response.headers.get('Content-Length', '')
    return int(text) if text.isdecimal() else None


def _retry_after(response: requests.Response) -> float | None:
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    value = response.headers.get('Retry-After')
    try:
        return None if value is None else Retry().parse_retry_after(value)
    except InvalidHeader:
        return None


def _require_encryption(url: str, response: requests.Response) -> None:
    """Raises Refused if a redirect left HTTPS."""
    if urlsplit(url).scheme == 'https' and urlsplit(response.url).scheme != 'https':
        raise Refused(f'leads to {response.url}, which is not encrypted')


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
    validator = validator if isinstance(validator, str) else None
    return (length(part), validator) if verified or validator else (0, None)
