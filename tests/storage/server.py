"""A store that speaks S3 on loopback: moto's real server, which a test can make busy."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import pytest

from segem.config import Url
from segem.io import objects
from segem.io.objects import Objects
from tests.machine import missing

SECRET = "never-in-a-record"
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_numbers = count()


@dataclass
class Store:
    """The server, and a bucket of its own in it."""

    url: str
    bucket: str
    app: Any
    refuse_every: int = 0
    """Of so many requests one is answered with 503; none where it is 0."""
    refuse_all: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request."""
    refused: int = 0
    lock: Lock = field(default_factory=Lock)

    @property
    def environment(self) -> dict[str, str]:
        """Return what a process needs to speak to it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "no_proxy": "127.0.0.1",
        }

    def prefix(self) -> Url:
        """Return a place in the bucket where nothing lies."""
        return Url(f"s3://{self.bucket}/{next(_numbers)}/em")

    def content(self, url: str) -> dict[str, bytes]:
        """Return all objects below a URL by their keys."""
        below = Objects(Url(url))
        return {key: below.read(key) for key in below.list_keys()}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        with self.lock:
            self.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
            refuse = self.refuse_all or (self.refuse_every and len(self.asked) % self.refuse_every == 0)
            self.refused += bool(refuse)
        if refuse:
            # What was sent is read, or the client would meet a broken connection before it sees the answer.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(_BUSY)))])
            return [_BUSY]
        answer: Iterable[bytes] = self.app(environ, start_response)
        return answer


@contextmanager
def serve() -> Iterator[Store]:
    """Serve a store, and let this process speak to it."""
    try:
        import s3fs
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server
    except ImportError as error:
        missing(f"{error.name} is not installed")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    store = Store("", f"bucket-{os.getpid()}-{next(_numbers)}", DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=MotoRequestHandler)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(store.bucket)
        objects._connect.cache_clear()
        yield store
        objects._connect.cache_clear()
    server.shutdown()
    thread.join()
    server.server_close()


def shards_of(volume: Path) -> dict[str, bytes]:
    """Return the shards of a volume on disk by their keys."""
    files = (path for path in volume.rglob("*") if path.is_file() and "c" in path.relative_to(volume).parts)
    return {path.relative_to(volume).as_posix(): path.read_bytes() for path in files}
