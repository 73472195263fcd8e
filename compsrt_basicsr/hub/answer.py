"""The answer of an address: redirects, errors of every kind, and a least speed, for all that is fetched."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError, InvalidHeader, ProtocolError, ReadTimeoutError
from urllib3.util import Retry

from compsrt_basicsr.errors import CompSRTError, plain
from compsrt_basicsr.hub import guard
from compsrt_basicsr.hub.guard import Guard, GuardedSession
from compsrt_basicsr.hub.source import check_url

CONNECT_TIMEOUT, READ_TIMEOUT = 15.0, 30.0  # seconds
MOST_REDIRECTS = 10
_RETRIED = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_REASON, _LONGEST_ADDRESS = 60, 200  # characters of a server that a message repeats
_LENGTH = re.compile('[0-9]{1,15}')


class Refused(Exception):
    """An address does not give the file; the text is the end of a sentence that starts with the address."""


class Interrupted(Exception):
    """A failed attempt that may be repeated, after `pause` seconds if the server said so."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class Answer(NamedTuple):
    """An open answer.

    Attributes:
        response: its headers are here; its body is not.
        note: to be called with the number of bytes whenever some were read.
    """

    response: requests.Response
    note: Callable[[int], None]


@contextmanager
def answer(url: str, headers: Mapping[str, str], verified: bool) -> Iterator[Answer]:
    """Asks an address and follows its redirects. Errors of the network, also inside the context, are translated.

    Args:
        url: the address.
        headers: of the request.
        verified: whether a checksum of the content is known, so that an unencrypted address does no harm.

    Raises:
        Refused: if the address, or one to which it leads, cannot be used.
        Interrupted: if it gives no answer in time, breaks off, or sends too slowly.
    """
    with Guard() as watch, GuardedSession() as session:
        try:
            with _follow(session, url, headers, verified) as response:
                watch.begin()
                yield Answer(response, watch.count)
            if watch.has_cut:  # without a length, this looks like the end
                raise Interrupted('')
        except Interrupted as error:
            if not watch.has_cut:
                raise
            raise _too_slow() from error
        except (requests.RequestException, HTTPError) as error:
            raise _too_slow() if watch.has_cut else _translated(error) from error


def require_success(response: requests.Response) -> None:
    """Makes sure that a status is 200.

    Raises:
        Interrupted: if the server may succeed later.
        Refused: if not.
    """
    status, reason = response.status_code, plain(response.reason or '', _LONGEST_REASON)
    if status in _RETRIED:
        raise Interrupted(f'answers {status} {reason}', _retry_after(response))
    if status != 200:
        raise Refused(f'answers {status} {reason}')


def content_length(response: requests.Response) -> int | None:
    """Returns the bytes that the headers announce, or None.

    Raises:
        Refused: if that is no number of bytes.
    """
    text = response.headers.get('Content-Length')
    if text is not None and not _LENGTH.fullmatch(text):
        raise Refused(f'announces a length of {plain(text, _LONGEST_REASON)} bytes')
    return None if text is None else int(text)


def next_address(address: str, location: str, verified: bool) -> str:
    """Returns where a redirect leads.

    Args:
        address: the address that redirects.
        location: what it says, relative or absolute.
        verified: as for `answer`.

    Raises:
        Refused: if that is no address, or it is not encrypted and `address` is, or nothing verifies what it gives.
    """
    shown = plain(location, _LONGEST_ADDRESS)
    try:
        target = urljoin(address, location)
        check_url(target, verified=True)
    except (ValueError, CompSRTError):
        raise Refused(f'leads to {shown}, which is no address of a file') from None
    try:
        check_url(target, verified)
    except CompSRTError:
        is_allowed = False
    else:
        is_allowed = urlsplit(target).scheme == 'https' or urlsplit(address).scheme != 'https'
    if not is_allowed:
        raise Refused(f'leads to {shown}, which is not encrypted')
    return target


def _follow(session: GuardedSession, url: str, headers: Mapping[str, str], verified: bool) -> requests.Response:
    """Returns the first answer that does not redirect."""
    address, timeout = url, (CONNECT_TIMEOUT, READ_TIMEOUT)
    for _ in range(MOST_REDIRECTS + 1):
        try:
            response = session.get(address, headers=dict(headers), stream=True, timeout=timeout, allow_redirects=False)
            location = session.location(response)
        except requests.RequestException:
            raise
        except ValueError as error:  # of addresses and headers, from several libraries
            raise Refused(f'cannot be asked for ({type(error).__name__})') from error
        if location is None:
            return response
        response.close()
        address = next_address(address, location, verified)
    raise Refused(f'leads on more than {MOST_REDIRECTS} times')


def _too_slow() -> Interrupted:
    return Interrupted(f'sends less than {guard.LEAST_SPEED:,} bytes a second')


def _translated(error: Exception) -> Interrupted | Refused:
    if isinstance(error, (requests.Timeout, ReadTimeoutError)):
        return Interrupted('does not answer in time' if isinstance(error, requests.Timeout) else 'stalls')
    if isinstance(error, (ProtocolError, requests.exceptions.ChunkedEncodingError)):
        return Interrupted('breaks off')
    if isinstance(error, requests.ConnectionError):
        return Interrupted('cannot be reached')
    return Refused(f'cannot be asked for ({type(error).__name__})')


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get('Retry-After')
    try:
        return None if value is None else Retry().parse_retry_after(value)
    except (InvalidHeader, ValueError, OverflowError):  # neither seconds nor a date, or absurd ones
        return None
