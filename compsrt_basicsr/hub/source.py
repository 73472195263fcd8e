"""What to fetch, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from compsrt_basicsr.errors import CompSRTError, plain

LARGEST_SIZE = 2**50  # bytes
_LONGEST = 200  # characters of an address in a message
_BLANK = re.compile(r'[\x00-\x20\x7f-\xa0]')
_LOOPBACK = ('localhost', '127.0.0.1', '::1')


@dataclass(frozen=True)
class Source:
    """A file, and where it is on the network.

    Attributes:
        urls: addresses of the file, tried in order; none for one that cannot be downloaded. Plain HTTP only with a
            known checksum, or to this machine.
        size: bytes, or None where it is not known.
        sha256: checksum in lower-case hexadecimal, or None where none was published: it is recorded at the first
            download, and later ones are compared with that.

    Raises:
        CompSRTError: if an address, the size or the checksum cannot be one.
    """

    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.size is not None and (type(self.size) is not int or not 1 <= self.size <= LARGEST_SIZE):
            raise CompSRTError('`size` must be a positive number of bytes, at most 2**50.')
        if self.sha256 is not None and not re.fullmatch('[0-9a-f]{64}', str(self.sha256)):
            raise CompSRTError(f'`sha256` must be 64 lower-case hexadecimal digits, got {self.sha256!r:.80}.')
        for url in self.urls:
            check_url(url, self.sha256 is not None)


def check_url(url: str, verified: bool) -> None:
    """Checks an address.

    Args:
        url: the address.
        verified: whether a checksum is known, so that an address without encryption does no harm.

    Raises:
        CompSRTError: if it has another scheme than HTTP(S), no host, or is plain HTTP to another machine for a file
            that nothing verifies.
    """
    shown = plain(str(url), _LONGEST)
    try:
        parts = urlsplit(str(url))
        is_address = parts.scheme in ('https', 'http') and _is_host(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without end, a port that is no number
        is_address = False
    if not is_address or _BLANK.search(str(url)):
        raise CompSRTError(f'`{shown}` is not an https:// address.')
    if parts.scheme == 'http' and not verified and parts.hostname not in _LOOPBACK:
        raise CompSRTError(f'`{shown}` is not encrypted and the file has no known checksum: give an https:// address.')


def _is_host(host: str | None) -> bool:
    """Returns whether a name can be looked up; raises ValueError for some that cannot."""
    labels = (host or '').removesuffix('.').encode('idna' if host and not host.isascii() else 'ascii').split(b'.')
    return all(0 < len(label) < 64 for label in labels)
