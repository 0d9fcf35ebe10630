"""A web server on 127.0.0.1 whose answers a test writes itself, down to the bytes that break off."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Asked(NamedTuple):
    """One request that came in."""

    path: str
    headers: dict[str, str]


Answer = Callable[[BaseHTTPRequestHandler, int], None]
"""(handler, number of the request from 1 on); writes the whole answer."""


class LocalServer(NamedTuple):
    """A running server: its address, and every request so far."""

    url: str
    asked: list[Asked]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[LocalServer]:
    """Answer requests with ``answer`` until the block ends, by https if there is a context for it."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(Asked(self.path, dict(self.headers.items())))
            self.close_connection = True
            with suppress(BrokenPipeError, ConnectionResetError):  # the client has had enough
                answer(self, len(asked))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield LocalServer(f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    """A plain answer; underscores in header names become dashes, and Content-Length is the body's unless given."""
    handler.send_response(status)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in ({"Content-Length": str(len(body))} | named).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def reply_file(handler: BaseHTTPRequestHandler, content: bytes, *, etag: str = '"1"', cut: int | None = None) -> None:
    """A file as a good server gives it, `Range` and `If-Range` honoured; broken off after ``cut`` bytes if given."""
    wanted = handler.headers.get("Range", "")
    start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
    if handler.headers.get("If-Range", etag) != etag:
        start = 0
    if start >= len(content):
        reply(handler, 416, Content_Range=f"bytes */{len(content)}", ETag=etag)
        return
    length = str(len(content) - start)
    body = content[start:] if cut is None else content[start : start + cut]
    if start:
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        reply(handler, 206, body, Content_Length=length, Content_Range=span, ETag=etag)
    else:
        reply(handler, 200, body, Content_Length=length, ETag=etag)
