"""A least speed for connections: a server that sends a byte now and then keeps nobody waiting for ever.

Timeouts of sockets end a read that gets nothing. They do not help where each read gets one byte: in the headers, in a
chunk's length, in the handshake of TLS. So a thread measures the speed and shuts the socket down.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

LEAST_SPEED = 1000  # bytes a second
SPAN = 30.0  # seconds over which the speed is measured
ANSWER_TIME = 60.0  # seconds until the headers are here, redirects included

_current: ContextVar[Guard | None] = ContextVar('guard', default=None)


class Guard:
    """Shuts the connection down that is made in its context, if the answer takes too long or its bytes come too slowly.

    A read of it then ends with an error, or as if the data were complete: ask `has_cut` after each.

    Attributes:
        has_cut: whether the connection was shut down.
    """

    def __init__(self) -> None:
        self.has_cut = False
        self._connection: HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._needed, self._received = 0.0, 0
        self._deadline = time.monotonic() + ANSWER_TIME
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Guard:
        self._token = _current.set(self)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        _current.reset(self._token)

    def begin(self) -> None:
        """The headers are here; from now on the speed counts."""
        self._received, self._needed = 0, LEAST_SPEED * SPAN
        self._deadline = time.monotonic() + SPAN

    def count(self, received: int) -> None:
        """Counts bytes."""
        self._received += received

    def watch(self, connection: HTTPConnection) -> None:
        """Notes the connection, and its socket, which the connection may give away with its answer."""
        self._connection = connection
        self._socket = connection.sock or self._socket

    def _watch(self) -> None:
        while not self._done.wait(min(SPAN / 10, 1.0)):
            if not self.has_cut and time.monotonic() > self._deadline:
                if self._received < self._needed or not self._needed:
                    self.has_cut = True
                self._received, self._deadline = 0, time.monotonic() + SPAN
            if self.has_cut:  # again and again: a new connection may have been made in the meantime
                self._shut_down()

    def _shut_down(self) -> None:
        current = None if self._connection is None else self._connection.sock
        for sock in (current, self._socket):
            if sock is not None:
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # TLS has one of its own, which waits for the peer


class GuardedSession(requests.Session):
    """A session whose connections are watched by the guard in whose context they are made.

    It does not follow redirects: requests would read their bodies, of any length.
    """

    def __init__(self) -> None:
        super().__init__()
        for scheme in ('https://', 'http://'):
            self.mount(scheme, _Adapter())

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Tells requests that no answer is a redirect; see `location`."""

    def location(self, response: requests.Response) -> str | None:
        """Returns where an answer redirects to, as it says, or None.

        Raises:
            ValueError: if that is no text.
        """
        return super().get_redirect_target(response)


def _note(connection: HTTPConnection) -> None:
    if (guard := _current.get()) is not None:
        guard.watch(connection)


class _Plain(HTTPConnection):
    def connect(self) -> None:
        _note(self)
        super().connect()

    def getresponse(self) -> Any:
        _note(self)
        return super().getresponse()


class _Encrypted(_Plain, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _EncryptedPool(HTTPSConnectionPool):
    ConnectionCls = _Encrypted


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _use_watched(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith('socks'):  # it has connections of its own
            _use_watched(manager)
        return manager


def _use_watched(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {'http': _PlainPool, 'https': _EncryptedPool}
