"""What to fetch, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from compsrt_basicsr.errors import CompSRTError

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
        if self.size is not None and (isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1):
            raise CompSRTError(f'`size` must be a positive number of bytes, got {self.size!r}.')
        if self.sha256 is not None and not re.fullmatch('[0-9a-f]{64}', str(self.sha256)):
            raise CompSRTError(f'`sha256` must be 64 lower-case hexadecimal digits, got {self.sha256!r}.')
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
    parts = urlsplit(str(url))
    if parts.scheme not in ('https', 'http') or not parts.hostname:
        raise CompSRTError(f'`{url}` is not an https:// address.')
    if parts.scheme == 'http' and not verified and parts.hostname not in _LOOPBACK:
        raise CompSRTError(f'`{url}` is not encrypted and the file has no known checksum: give an https:// address.')
