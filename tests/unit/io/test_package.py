"""A package is written whole, and what a stranger has put into one does no harm."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from segem.errors import ConfigError, ModelError
from segem.io.package import opened, write_package


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return pack(tmp_path / "p.zip", {"rdf.yaml": b"type: model\nname: n\n", "w": b"weights"})


def pack(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def refused(path: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught, opened(path) as package:
        package.description()
    assert str(path) in str(caught.value)
    assert "Fix: " in str(caught.value)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "rdf.yaml").write_text("type: model\n")
    (folder / "w").write_bytes(b"weights")
    write_package(folder, tmp_path / "p.zip")
    with opened(tmp_path / "p.zip") as package:
        assert package.description() == {"type": "model"}
        package.unpack("w", hashlib.sha256(b"weights").hexdigest(), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"weights"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "out", "p.zip"]


def test_nothing_is_replaced_unasked(made: Path, tmp_path: Path) -> None:
    before, folder = made.read_bytes(), tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ConfigError, match="--force"):
        write_package(folder, made)
    assert made.read_bytes() == before
    write_package(folder, made, force=True)
    assert zipfile.ZipFile(made).namelist() == []
    with pytest.raises(ConfigError, match="exists"):
        write_package(folder, folder, force=True)


@pytest.mark.parametrize("name", ["../w", "a/../../w", "/etc/w", "..\\w", "C:\\w"])
def test_members_that_leave_their_folder(name: str, tmp_path: Path) -> None:
    refused(pack(tmp_path / "p.zip", {"rdf.yaml": b"type: model", name: b"w"}), "malicious")
    assert [p.name for p in tmp_path.iterdir()] == ["p.zip"]


def test_bombs(tmp_path: Path) -> None:
    zeros = bytes(2**25)
    refused(pack(tmp_path / "p.zip", {"rdf.yaml": zeros}, zipfile.ZIP_DEFLATED), r"malicious.*unpack to 33554432")
    refused(pack(tmp_path / "q.zip", {"rdf.yaml": zeros[: 2**21]}, zipfile.ZIP_DEFLATED), "too long")
    many = {f"{i}": b"" for i in range(1001)}
    refused(pack(tmp_path / "r.zip", many), "malicious.*1001 members")


def test_a_name_given_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("rdf.yaml", "type: model")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("rdf.yaml", "type: dataset")
    refused(tmp_path / "p.zip", "malicious.*2 members of 1 names")


def test_what_is_no_package(made: Path, tmp_path: Path) -> None:
    refused(tmp_path / "missing.zip", "no such package")
    refused(tmp_path, "not a package of bioimage.io; .* found a folder. Fix: zip what it holds")
    (tmp_path / "noise.zip").write_bytes(b"noise")
    refused(tmp_path / "noise.zip", "not a package")
    (tmp_path / "cut.zip").write_bytes(made.read_bytes()[:-30])
    refused(tmp_path / "cut.zip", "not a package")
    refused(pack(tmp_path / "empty.zip", {}), "no description")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"type: dataset", "holds no model"),
        (b"- type: model", "holds no model"),
        (b"type: [", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[" * 10_000, "cannot be read"),
        (b"!!python/object/apply:os.system ['touch ran']", "cannot be read"),
    ],
)
def test_descriptions_that_describe_nothing(
    text: bytes, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(pack(tmp_path / "p.zip", {"rdf.yaml": text}), match)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("first", "next_one"), [("[x]", "[{}]"), ("{k: v}", "{{<<: [{}]}}")])
def test_a_description_that_grows_when_it_is_read(first: str, next_one: str, tmp_path: Path) -> None:
    lines = [f"a0: &a0 {first}", *(f"a{i}: &a{i} {next_one.format(','.join([f'*a{i - 1}'] * 9))}" for i in range(1, 7))]
    text = "\n".join(["type: model", *lines])
    refused(pack(tmp_path / "p.zip", {"rdf.yaml": text.encode()}), "malicious.*rdf.yaml")
    refused(pack(tmp_path / "q.zip", {"rdf.yaml": b"type: model\na: &a [*a]"}), "malicious.*rdf.yaml")


def test_a_description_may_say_one_thing_twice(tmp_path: Path) -> None:
    text = b"type: model\nauthors: &id001\n- name: Ada\nmaintainers: *id001\n"
    with opened(pack(tmp_path / "p.zip", {"rdf.yaml": text})) as package:
        assert package.description()["maintainers"] == [{"name": "Ada"}]


def test_members_that_are_not_what_they_should_be(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with opened(made) as package:
        with pytest.raises(ModelError, match="missing; expected gone"):
            package.unpack("gone", None, out)
        with pytest.raises(ModelError, match=r"p\.zip, w: .*not the one it describes; expected sha256 0+, found"):
            package.unpack("w", "0" * 64, out)
    made.write_bytes(made.read_bytes().replace(b"weights", b"wEights"))
    with opened(made) as package, pytest.raises(ModelError, match=r"damaged.*CRC"):
        package.unpack("w", None, out)
