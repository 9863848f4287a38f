"""Downloads over a real connection: what breaks, lies or is slow ends in the right bytes or in one line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from segem.errors import InputError, WorkspaceError
from segem.io import download
from segem.io.download import Remote, compute_checksum, fetch
from tests.mirror import Mirror, Served, serving

CONTENT = bytes(range(256)) * 2000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    for name in ("ALL_PROXY", "HTTP_PROXY", "all_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as mirror:
        yield mirror


def remote(*urls: str, checksum: str | None = DIGEST) -> Remote:
    return Remote("stack.bin", urls, checksum)


def test_a_file_is_downloaded_once(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.put("stack.bin", Served(CONTENT))
    for _ in range(2):
        assert fetch(remote(url), tmp_path).read_bytes() == CONTENT
    assert mirror.asked == [("/stack.bin", None)]
    assert [path.name for path in tmp_path.iterdir()] == ["stack.bin"], "nothing else is left"


@pytest.mark.parametrize("checksum", [DIGEST, f"md5:{hashlib.md5(CONTENT).hexdigest()}", None])
def test_what_breaks_off_is_resumed_where_it_broke(mirror: Mirror, tmp_path: Path, checksum: str | None) -> None:
    url = mirror.put("stack.bin", Served(CONTENT, breaks_after=[6 * 16384, 3 * 16384]))
    assert fetch(remote(url, checksum=checksum), tmp_path).read_bytes() == CONTENT
    assert mirror.asked == [("/stack.bin", asked) for asked in (None, "bytes=98304-", "bytes=147456-")]


def test_a_download_that_was_killed_is_resumed(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.put("stack.bin", Served(CONTENT))
    (tmp_path / "stack.bin.part").write_bytes(CONTENT[:7])
    (tmp_path / "stack.bin.part.json").write_text(json.dumps({"url": url, "validator": '"1"'}))
    assert fetch(remote(url, checksum=None), tmp_path).read_bytes() == CONTENT
    assert mirror.asked == [("/stack.bin", "bytes=7-")]


def test_a_download_that_was_killed_at_its_end_is_taken(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.put("stack.bin", Served(CONTENT))
    (tmp_path / "stack.bin.part").write_bytes(CONTENT)
    assert fetch(remote(url), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("tag", ['"2"', "", 'W/"1"'])
def test_without_a_checksum_the_rest_of_another_version_is_never_appended(
    mirror: Mirror, tmp_path: Path, tag: str
) -> None:
    url = mirror.put("stack.bin", Served(CONTENT, tag=tag))
    (tmp_path / "stack.bin.part").write_bytes(b"old")
    (tmp_path / "stack.bin.part.json").write_text(
        json.dumps({"url": url, "validator": '"1"' if tag == '"2"' else None})
    )
    assert fetch(remote(url, checksum=None), tmp_path).read_bytes() == CONTENT


def test_a_server_that_knows_no_parts_sends_all_again(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.put("stack.bin", Served(CONTENT, ranges=False, breaks_after=[100_000]))
    assert fetch(remote(url), tmp_path).read_bytes() == CONTENT
    assert len(mirror.asked) == 2


def test_a_beginning_that_does_not_fit_is_noticed_and_not_kept(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.put("stack.bin", Served(CONTENT))
    (tmp_path / "stack.bin.part").write_bytes(b"other")
    with pytest.raises(InputError, match="another file than the one that is known"):
        fetch(remote(url), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert fetch(remote(url), tmp_path).read_bytes() == CONTENT, "the next one begins anew"


def test_another_file_is_refused_with_both_checksums(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.put("stack.bin", Served(b"other"))
    with pytest.raises(InputError) as caught:
        fetch(remote(url), tmp_path)
    line = str(caught.value)
    assert DIGEST.removeprefix("sha256:") in line
    assert hashlib.sha256(b"other").hexdigest() in line
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_is_followed(mirror: Mirror, tmp_path: Path) -> None:
    mirror.put("there.bin", Served(CONTENT))
    url = mirror.put("stack.bin", Served(location="/there.bin"))
    assert fetch(remote(url), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/stack.bin", "gopher://x/"])
def test_a_redirect_to_anything_but_http_is_refused(mirror: Mirror, tmp_path: Path, target: str) -> None:
    url = mirror.put("stack.bin", Served(location=target))
    with pytest.raises(InputError, match="neither http nor https"):
        fetch(remote(url, checksum=None), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_next_mirror_gives_what_the_first_does_not(mirror: Mirror, tmp_path: Path) -> None:
    gone = f"{mirror.address}/gone.bin"
    wrong = mirror.put("wrong.bin", Served(b"other"))
    good = mirror.put("good.bin", Served(CONTENT))
    assert fetch(remote("http://127.0.0.1:9/stack.bin", gone, wrong, good), tmp_path).read_bytes() == CONTENT


def test_the_next_mirror_goes_on_where_the_first_broke_off(mirror: Mirror, tmp_path: Path) -> None:
    first = mirror.put("first.bin", Served(CONTENT, breaks_after=[98304, 0, 0, 0, 0, 0]))
    second = mirror.put("second.bin", Served(CONTENT))
    assert fetch(remote(first, second), tmp_path).read_bytes() == CONTENT
    assert mirror.asked[-1] == ("/second.bin", "bytes=98304-")


def test_the_reason_of_each_mirror_is_told_in_one_line(mirror: Mirror, tmp_path: Path) -> None:
    gone = f"{mirror.address}/gone.bin"
    with pytest.raises(InputError) as caught:
        fetch(remote("http://127.0.0.1:9/stack.bin", gone), tmp_path)
    line = str(caught.value)
    assert "http://127.0.0.1:9/stack.bin: no connection" in line
    assert f"{gone}: HTTP 404 Not Found" in line
    assert "check the network" in line


def test_a_connection_that_always_breaks_is_given_up(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.put("stack.bin", Served(CONTENT, breaks_after=[16384] * 20))
    with pytest.raises(InputError, match=r"broke off 5 times, at 81920 bytes"):
        fetch(remote(url), tmp_path)
    assert (tmp_path / "stack.bin.part").stat().st_size == 81920, "kept, so that the next one resumes"


def test_a_server_that_falls_silent_is_left(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "READ_SECONDS", 0.1)
    url = mirror.put("stack.bin", Served(CONTENT, pause_seconds=60.0))
    with pytest.raises(InputError, match="broke off 5 times"):
        fetch(remote(url), tmp_path)


def test_a_slow_server_is_waited_for(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "READ_SECONDS", 30.0)
    url = mirror.put("stack.bin", Served(CONTENT, pause_seconds=0.2))
    assert fetch(remote(url), tmp_path).read_bytes() == CONTENT
    assert len(mirror.asked) == 1


@pytest.mark.parametrize("length", [len(CONTENT) - 1000, 10])
def test_a_length_that_is_too_small_gives_no_file(mirror: Mirror, tmp_path: Path, length: int) -> None:
    url = mirror.put("stack.bin", Served(CONTENT, length=length))
    with pytest.raises(InputError, match="another file than the one that is known"):
        fetch(remote(url), tmp_path)
    assert not (tmp_path / "stack.bin").exists()


def test_a_length_that_is_too_large_is_found_out(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.put("stack.bin", Served(CONTENT, length=len(CONTENT) + 1000))
    # The server says in the end, when it is asked for the rest, that there is none.
    assert fetch(remote(url), tmp_path).read_bytes() == CONTENT


def test_a_disk_that_is_too_small_is_said_before_the_download(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.put("stack.bin", Served(CONTENT, length=10**18))
    with pytest.raises(WorkspaceError, match=r"the disk is too small; expected 1000000000000 MB free"):
        fetch(remote(url), tmp_path)


def test_a_checksum_is_of_the_kind_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    assert compute_checksum(path) == DIGEST
    assert compute_checksum(path, "md5:0") == f"md5:{hashlib.md5(CONTENT).hexdigest()}"


def test_a_proxy_that_cannot_be_used_is_named(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    url = mirror.put("stack.bin", Served(CONTENT))
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(InputError, match=r"SOCKS proxy needs a package|no connection"):
        fetch(remote(url), tmp_path)
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="the proxy gives no connection"):
        fetch(remote(url), tmp_path)


def test_a_connection_that_is_dropped_before_it_began_is_tried_again(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.put("stack.bin", Served(CONTENT, drops=2))
    assert fetch(remote(url), tmp_path).read_bytes() == CONTENT
    assert len(mirror.asked) == 3
    url = mirror.put("gone.bin", Served(CONTENT, drops=99))
    with pytest.raises(InputError, match="it broke off 5 times, at 0 bytes"):
        fetch(Remote("gone.bin", (url,), DIGEST), tmp_path)
