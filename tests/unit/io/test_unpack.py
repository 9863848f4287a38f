"""Archives of data sets: unpacked as they are, or refused before a byte is written."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from segem.errors import InputError, WorkspaceError
from segem.io.unpack import unpack


def pack(path: Path, members: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, mode << 16
            archive.writestr(info, content)
    return path


def unpacked(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into" / "deep"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({"a.tif": b"1", "seg/b.tif": b"2"}, {"a.tif": b"1", "seg/b.tif": b"2"}),
        ({"set-main/": b"", "set-main/a.tif": b"1", "set-main/x/b.tif": b"2"}, {"a.tif": b"1", "x/b.tif": b"2"}),
        ({"set/a.tif": b"1", "__MACOSX/set/._a.tif": b"0"}, {"a.tif": b"1"}),
        ({"image/a.tif": b"1", "seg/a.tif": b"2"}, {"image/a.tif": b"1", "seg/a.tif": b"2"}),
        ({"one/two/a.tif": b"1", "one/two/b.tif": b"2"}, {"two/a.tif": b"1", "two/b.tif": b"2"}),
        ({}, {}),
    ],
)
def test_members_keep_their_place_but_for_the_one_folder_around_all(
    tmp_path: Path, into: Path, members: dict[str, bytes], found: dict[str, bytes]
) -> None:
    unpack(pack(tmp_path / "set.zip", members), into)
    assert unpacked(into) == found


@pytest.mark.parametrize("name", ["../out.tif", "a/../../out.tif", "/out.tif", "..\\out.tif", "C:\\out.tif"])
def test_a_member_outside_the_folder_is_refused(tmp_path: Path, into: Path, name: str) -> None:
    with pytest.raises(InputError, match="would do harm; found a member with the name"):
        unpack(pack(tmp_path / "set.zip", {"a.tif": b"1", name: b"2"}), into)
    assert unpacked(tmp_path / "into") == {}


def test_a_link_is_refused(tmp_path: Path, into: Path) -> None:
    with pytest.raises(InputError, match="would do harm; found a link with the name 'a'"):
        unpack(pack(tmp_path / "set.zip", {"a": b"/etc/passwd"}, stat.S_IFLNK | 0o777), into)
    assert unpacked(into) == {}


def test_a_bomb_is_refused(tmp_path: Path, into: Path) -> None:
    archive = pack(tmp_path / "set.zip", {"a.tif": bytes(2**25)})
    assert archive.stat().st_size < 2**16
    with pytest.raises(InputError, match=r"would do harm; found .* bytes that unpack to 33554432"):
        unpack(archive, into)
    assert unpacked(into) == {}


def test_a_disk_that_is_too_small_is_said_before(tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "set.zip", {"a.tif": bytes(10**6)})
    usage = shutil.disk_usage(into)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6 - 1))
    with pytest.raises(WorkspaceError, match="the disk is too small; expected 1 MB free"):
        unpack(archive, into)
    assert unpacked(into) == {}


def test_a_damaged_member_is_named(tmp_path: Path, into: Path) -> None:
    archive = pack(tmp_path / "set.zip", {"a.tif": b"membrane" * 1000})
    content = bytearray(archive.read_bytes())
    content[45] ^= 255
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"set\.zip, a\.tif: the archive is damaged"):
        unpack(archive, into)


def test_a_page_that_says_why_there_is_no_file_is_no_archive(tmp_path: Path, into: Path) -> None:
    (tmp_path / "set.zip").write_text("<html>please log in</html>")
    with pytest.raises(InputError, match=r"set\.zip: not a zip archive"):
        unpack(tmp_path / "set.zip", into)
