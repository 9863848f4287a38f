"""A server of files on loopback that can be slow, break off, lie and send elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """A file, and how the server behaves when it is asked for it."""

    content: bytes = b""
    tag: str = '"1"'
    """Its ETag; none where empty."""
    ranges: bool = True
    """Whether the server can send a part."""
    breaks_after: list[int] = field(default_factory=list)
    """How many bytes to send to each of the first requests before the connection breaks."""
    drops: int = 0
    """How many of the first requests it lets go of without an answer."""
    length: int | None = None
    """What it says of the length, where that is not true."""
    status: int = 200
    location: str = ""
    """Where it sends the reader."""
    pause_seconds: float = 0.0
    """Before the second half."""


@dataclass
class Mirror:
    """What is served, and what was asked for."""

    address: str
    files: dict[str, Served] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request."""

    def put(self, name: str, served: Served) -> str:
        """Serve a file and return where it is."""
        self.files[f"/{name}"] = served
        return f"{self.address}/{name}"


@contextmanager
def serving() -> Iterator[Mirror]:
    """Serve files in a thread while the body runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            mirror.asked.append((self.path, asked))
            self.close_connection = True
            served = mirror.files.get(self.path, Served(status=404))
            if served.drops:
                served.drops -= 1
                return
            if served.location:
                self.send_response(302)
                self.send_header("Location", served.location)
                self.send_header("Content-Length", "0")
                # Said, or the reader may ask for the next address on a connection that is just being closed.
                self.send_header("Connection", "close")
                self.end_headers()
                return
            condition = self.headers.get("If-Range")
            start = 0
            if asked and served.ranges and condition in (None, served.tag):
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            whole = len(served.content)
            if served.status == 200 and start >= max(whole, 1):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{whole}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = served.content[start:]
            self.send_response(206 if start else served.status)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            if served.tag:
                self.send_header("ETag", served.tag)
            self.send_header("Content-Length", str(len(body) if served.length is None else served.length))
            self.end_headers()
            most = served.breaks_after.pop(0) if served.breaks_after else len(body)
            half = min(most, len(body) // 2)
            self.wfile.write(body[:half])
            if served.pause_seconds:
                self.wfile.flush()
                stop.wait(served.pause_seconds)
            self.wfile.write(body[half:most])

        def handle(self) -> None:
            # A reader that has seen enough is no fault of the server.
            with suppress(ConnectionError):
                super().handle()

    stop = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    mirror = Mirror(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()
