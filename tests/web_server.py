"""A web server on this machine that misbehaves as told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behaviour = Callable[['Handler', bytes], None]


class Handler(BaseHTTPRequestHandler):
    """Answers `GET /NAME` with the server's file of that name, in the way that its next behaviour says."""

    protocol_version = 'HTTP/1.1'

    def do_GET(self) -> None:
        name = self.path.lstrip('/')
        self.server.requests.append((name, self.headers.get('Range'), self.headers.get('If-Range')))
        behaviours = self.server.behaviours.get(name, [])
        behaviour = behaviours.pop(0) if behaviours else serve
        if name not in self.server.files:
            behaviour = status(404)
        self.close_connection = True
        behaviour(self, self.server.files.get(name, b''))

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for key, value in {'Content_Length': str(len(body)), 'Connection': 'close', **headers}.items():
            if value is not None:
                self.send_header(key.replace('_', '-'), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Files by name, and for each what it does at its next requests; afterwards it serves them properly."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.files: dict[str, bytes] = {}
        self.behaviours: dict[str, list[Behaviour]] = {}
        self.requests: list[tuple[str, str | None, str | None]] = []

    def url(self, name: str = '') -> str:
        return f'http://127.0.0.1:{self.server_address[1]}/{name}'

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


@contextmanager
def running_server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def serve(handler: Handler, body: bytes, etag: str | None = '"1"') -> None:
    """As a good server does, ranges included."""
    asked = handler.headers.get('Range')
    if asked is None or handler.headers.get('If-Range') not in (None, etag):
        return handler.answer(200, body, ETag=etag)
    start = int(asked.removeprefix('bytes=').rstrip('-'))
    if start >= len(body):
        return handler.answer(416, b'', Content_Range=f'bytes */{len(body)}')
    span = f'bytes {start}-{len(body) - 1}/{len(body)}'
    return handler.answer(206, body[start:], Content_Range=span, ETag=etag)


def cut(count: int, etag: str | None = '"1"') -> Behaviour:
    """Hangs up after some bytes of what it announced."""

    def behave(handler: Handler, body: bytes) -> None:
        sent = handler.wfile.write
        handler.wfile.write = lambda data: sent(data[:count]) if data in body else sent(data)
        serve(handler, body, etag)

    return behave


def ignore_range(handler: Handler, body: bytes) -> None:
    handler.answer(200, body, ETag='"1"')


def without_validator(handler: Handler, body: bytes) -> None:
    serve(handler, body, etag=None)


def wrong_range(handler: Handler, body: bytes) -> None:
    handler.answer(206, body[:3], Content_Range=f'bytes 0-2/{len(body)}', ETag='"1"')


def announce(length: int) -> Behaviour:
    """Lies about the length."""
    return lambda handler, body: handler.answer(200, body, Content_Length=str(length), ETag='"1"')


def without_length(count: int | None = None) -> Behaviour:
    """Says no length and ends by hanging up, after `count` bytes."""
    return lambda handler, body: handler.answer(200, body[:count], Content_Length=None)


def chunked(count: int | None = None) -> Behaviour:
    """Sends in chunks of 1000 bytes without a length; hangs up after `count` of them."""

    def behave(handler: Handler, body: bytes) -> None:
        handler.send_response(200)
        handler.send_header('Transfer-Encoding', 'chunked')
        handler.send_header('ETag', '"1"')
        handler.end_headers()
        chunks = [body[start : start + 1000] for start in range(0, len(body), 1000)]
        for chunk in chunks[:count]:
            handler.wfile.write(b'%x\r\n%s\r\n' % (len(chunk), chunk))
        if count is None:
            handler.wfile.write(b'0\r\n\r\n')

    return behave


def send(other: bytes) -> Behaviour:
    """Gives other bytes."""
    return lambda handler, body: serve(handler, other, '"2"')


def status(code: int, **headers: str) -> Behaviour:
    return lambda handler, body: handler.answer(code, b'', **headers)


def redirect(url: str) -> Behaviour:
    return status(302, Location=url)


def say(head: bytes) -> Behaviour:
    """Sends a head word for word, then the body."""
    return lambda handler, body: handler.wfile.write(head + b'\r\n\r\n' + body)


def drip(head: bytes, piece: bytes = b'x', pause: float = 0.02) -> Behaviour:
    """Sends a head, then a piece now and then until the client hangs up."""

    def behave(handler: Handler, body: bytes) -> None:
        handler.wfile.write(head)
        for _ in range(1000):
            handler.wfile.write(piece)
            time.sleep(pause)

    return behave


def stall(seconds: float) -> Behaviour:
    """Sends half, then nothing."""

    def behave(handler: Handler, body: bytes) -> None:
        handler.send_response(200)
        handler.send_header('Content-Length', str(len(body)))
        handler.send_header('ETag', '"1"')
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        time.sleep(seconds)

    return behave
