"""Objects of a store: whole or not there, again where the store is busy, and errors that say what to do."""

from __future__ import annotations

import pytest

from segem.config import Url
from segem.errors import StorageError
from segem.io import objects
from segem.io.objects import ExistsError, Objects
from tests.storage.server import SECRET, Store

pytestmark = [
    # Of botocore, which moto's server uses.
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "FIRST_PAUSE_SECONDS", 0.001)


def test_what_is_written_is_read_in_whole_and_in_part(store: Store) -> None:
    below = Objects(store.prefix())
    below.write("a/b", b"0123456789")
    assert below.read("a/b") == b"0123456789"
    assert below.read_end("a/b", 4) == (b"6789", 10)
    assert below.read_end("a/b", 400) == (b"0123456789", 10)
    assert below.read_ranges("a/b", [(0, 2), (8, 5), (10, 3)]) == [b"01", b"89", b""]
    below.write("a/b", b"")
    assert below.read("a/b") == b""
    assert below.read_end("a/b", 4) == (b"", 0)
    with pytest.raises(FileNotFoundError):
        below.read("a")


def test_what_must_be_new_replaces_nothing(store: Store) -> None:
    below = Objects(store.prefix())
    below.write("one", b"first", new=True)
    with pytest.raises(ExistsError):
        below.write("one", b"second", new=True)
    assert below.read("one") == b"first"


def test_objects_are_listed_and_removed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    below = Objects(store.prefix())
    keys = [f"{folder}/{n:02}" for folder in ("a", "b c") for n in range(12)]
    for key in keys:
        below.write(key, b"x")
    # A prefix ends with a folder: what only begins alike is another's.
    Objects(Url(f"{below.url}-other")).write("a/00", b"x")
    assert list(below.list_keys()) == keys
    assert list(below.list_folders()) == ["a", "b c"]
    assert below.missing(["a/00", "a", "a/12", "b c/11"]) == ["a", "a/12"]
    monkeypatch.setattr(objects, "_AT_ONCE", 5)
    below.within("a").remove(below.within("a").list_keys())
    assert list(below.list_keys()) == keys[12:]
    assert list(Objects(Url(f"{below.url}-other")).list_keys()) == ["a/00"]


def test_a_long_list_comes_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of moto: what S3 has at 1000.
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "7")
    below = Objects(store.prefix())
    for n in range(20):
        below.write(f"{n:02}/x", b"")
    assert list(below.list_keys()) == [f"{n:02}/x" for n in range(20)]
    assert list(below.list_folders()) == [f"{n:02}" for n in range(20)]


def test_a_busy_store_is_asked_again(store: Store) -> None:
    below = Objects(store.prefix())
    store.refuse_every, before = 3, store.refused
    for n in range(10):
        below.write(str(n), b"x" * n)
    assert [len(below.read(str(n))) for n in range(10)] == list(range(10))
    assert store.refused > before


def test_a_store_that_stays_busy_is_named_with_what_to_do(store: Store) -> None:
    below = Objects(store.prefix())
    store.refuse_all = True
    with pytest.raises(StorageError, match=r"does not answer; found SlowDown, 10 times. Fix: run the same command"):
        below.write("a", b"")


def test_a_store_that_is_not_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    objects._connect.cache_clear()
    with pytest.raises(StorageError, match=r"does not answer; found .*, 10 times. Fix: .*AWS_ENDPOINT_URL"):
        Objects(store.prefix()).read("a")
    objects._connect.cache_clear()


def test_a_bucket_that_is_not_there(store: Store) -> None:
    for work in (
        lambda below: below.read("a"),
        lambda below: below.write("a", b""),
        lambda below: [*below.list_keys()],
    ):
        with pytest.raises(StorageError, match="there is no such bucket"):
            work(Objects(Url("s3://nobody-has-this/em")))


def test_no_credentials(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    objects._connect.cache_clear()
    with pytest.raises(StorageError, match=r"no credentials for the storage.*Fix: give credentials") as caught:
        Objects(store.prefix()).read("a")
    assert SECRET not in str(caught.value)
    objects._connect.cache_clear()


def test_access_denied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>no</Message></Error>"

    def deny(environ, start_response):
        start_response("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(answer)))])
        return [answer]

    monkeypatch.setattr(store, "app", deny)
    with pytest.raises(StorageError, match=r"denies access; found AccessDenied. Fix: give credentials"):
        Objects(store.prefix()).read("a")
