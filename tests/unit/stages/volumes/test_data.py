"""Public data sets: what the table says, and what one download leaves on the disk."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tifffile
import typer

from segem.cli import app
from segem.errors import ConfigError, InputError, WorkspaceError
from segem.io import download
from segem.io.download import Remote
from segem.io.files import locked
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.records.download import Download
from segem.stages.volumes.data import find_set, get_set
from segem.stages.volumes.public_sets import PUBLIC_SETS, PublicSet, PublicVolume
from tests.mirror import Mirror, Served, serving


def packed(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"set-main/{name}.tif", content)
    return buffer.getvalue()


ARCHIVE = packed(train=b"1" * 100_000, labels=b"2" * 1000)
HDF = b"\x89HDF\r\n\x1a\n" + b"3" * 1000


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    for name in ("ALL_PROXY", "HTTP_PROXY", "all_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as mirror:
        yield mirror


def make_set(url: str, *, known: bytes | None = None, file: str = "set.zip") -> PublicSet:
    checksum = None if known is None else f"sha256:{hashlib.sha256(known).hexdigest()}"
    return PublicSet(
        name="fly",
        what="a fly",
        files=(Remote(file, (url,), checksum),),
        megabytes=None,
        voxel_nm=(50.0, 4.0, 4.0),
        labels="membrane 0",
        licence="CC0-1.0",
        cite=("doi:10.1/1",),
        volumes=(PublicVolume("fly", "train.tif", "labels.tif", "zero"),),
    )


def test_a_set_is_downloaded_unpacked_and_recorded(mirror: Mirror, tmp_path: Path) -> None:
    chosen = make_set(mirror.put("set.zip", Served(ARCHIVE)), known=ARCHIVE)
    made = get_set(chosen, tmp_path)
    assert (made.path, made.downloaded, made.checked_by) == (tmp_path / "fly", True, "checksum")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fly", "fly.json"]
    assert {path.name: path.read_bytes() for path in made.path.iterdir()} == {
        "train.tif": b"1" * 100_000,
        "labels.tif": b"2" * 1000,
    }
    record = Download.model_validate_json((tmp_path / "fly.json").read_text())
    assert (record.licence, record.cite, record.files[0].known) == ("CC0-1.0", ("doi:10.1/1",), True)
    assert made.ingest == (
        f"segem ingest {tmp_path}/fly/train.tif --name fly --voxel-nm 50,4,4"
        f" --labels {tmp_path}/fly/labels.tif --membrane zero",
    )


def test_a_second_time_nothing_is_done(mirror: Mirror, tmp_path: Path) -> None:
    chosen = make_set(mirror.put("set.zip", Served(ARCHIVE)))
    get_set(chosen, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    mirror.files.clear()
    again = get_set(chosen, tmp_path)
    assert (again.path, again.downloaded) == (tmp_path / "fly", False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert len(mirror.asked) == 1


def test_a_first_download_is_remembered_and_another_one_refused(
    mirror: Mirror, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = mirror.put("set.zip", Served(ARCHIVE))
    chosen = make_set(url)
    made = get_set(chosen, tmp_path)
    assert made.checked_by == "first download"
    digest = hashlib.sha256(ARCHIVE).hexdigest()
    assert re.search(
        f"set.zip: no checksum is published, .* remembered in {tmp_path}/fly.json: sha256:{digest}", caplog.text
    )
    made.path.rename(tmp_path / "elsewhere")
    mirror.put("set.zip", Served(packed(train=b"other")))
    with pytest.raises(InputError, match=f"another file than the one that is known.*{digest}"):
        get_set(chosen, tmp_path)
    assert not made.path.exists()
    mirror.put("set.zip", Served(ARCHIVE))
    caplog.clear()
    assert get_set(chosen, tmp_path).downloaded
    assert caplog.text == "", "said once"


@pytest.mark.parametrize(("file", "told"), [("set.zip", "not a zip archive"), ("set.hdf", "not a file of its kind")])
def test_a_page_that_asks_to_log_in_is_not_remembered_as_the_set(
    mirror: Mirror, tmp_path: Path, file: str, told: str
) -> None:
    chosen = make_set(mirror.put(file, Served(b"<html>please log in</html>")), file=file)
    with pytest.raises(InputError, match=told):
        get_set(chosen, tmp_path)
    assert not (tmp_path / "fly").exists()
    assert not (tmp_path / "fly.json").exists()
    mirror.put(file, Served(ARCHIVE if file.endswith("zip") else HDF))
    assert get_set(chosen, tmp_path).downloaded


def test_a_single_file_is_put_into_the_folder(mirror: Mirror, tmp_path: Path) -> None:
    made = get_set(make_set(mirror.put("set.hdf", Served(HDF)), known=HDF, file="set.hdf"), tmp_path)
    assert (made.path / "set.hdf").read_bytes() == HDF
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fly", "fly.json"]


def test_an_interrupted_download_is_kept_and_resumed(mirror: Mirror, tmp_path: Path) -> None:
    url = mirror.put("set.zip", Served(ARCHIVE, breaks_after=[16384] * 5))
    chosen = make_set(url, known=ARCHIVE)
    with pytest.raises(InputError, match="broke off 5 times, at 81920 bytes"):
        get_set(chosen, tmp_path)
    assert get_set(chosen, tmp_path).downloaded
    assert mirror.asked[-1] == ("/set.zip", "bytes=81920-")


def test_without_a_network_a_file_that_was_fetched_elsewhere_is_taken(tmp_path: Path) -> None:
    chosen = make_set("http://127.0.0.1:9/set.zip", known=ARCHIVE)
    with pytest.raises(InputError) as caught:
        get_set(chosen, tmp_path)
    assert f"fetch http://127.0.0.1:9/set.zip elsewhere and put it at {tmp_path / 'set.zip'}" in str(caught.value)
    assert list(tmp_path.iterdir()) == [], "nothing is left of it"
    with pytest.raises(InputError):
        get_set(chosen, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set.zip").write_bytes(ARCHIVE[:-1])
    with pytest.raises(InputError, match="not the file that was published"):
        get_set(chosen, tmp_path)
    (tmp_path / "set.zip").write_bytes(ARCHIVE)
    made = get_set(chosen, tmp_path)
    assert (made.path / "train.tif").read_bytes() == b"1" * 100_000
    assert (tmp_path / "set.zip").read_bytes() == ARCHIVE, "it is the user's"


def test_a_folder_of_somebody_else_is_left_alone(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "fly").mkdir()
    (tmp_path / "fly" / "mine.tif").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="segem did not download"):
        get_set(make_set(mirror.put("set.zip", Served(ARCHIVE))), tmp_path)
    assert (tmp_path / "fly" / "mine.tif").read_bytes() == b"mine"
    assert mirror.asked == []


def test_two_at_once_do_not_mix(mirror: Mirror, tmp_path: Path) -> None:
    chosen = make_set(mirror.put("set.zip", Served(ARCHIVE)))
    with locked(tmp_path / ".fly.lock"), pytest.raises(WorkspaceError, match="another process is writing here"):
        get_set(chosen, tmp_path)
    results: list[Any] = []

    def get() -> None:
        try:
            results.append(get_set(chosen, tmp_path).downloaded)
        except WorkspaceError as error:
            results.append(error.what)

    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(True) == 1
    assert set(results) <= {True, False, "another process is writing here"}
    assert (tmp_path / "fly" / "train.tif").read_bytes() == b"1" * 100_000


def test_what_the_disk_refuses_names_the_option_of_this_command(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="choose another --to"):
        get_set(make_set("http://127.0.0.1:9/set.zip"), tmp_path / "file")


def test_a_damaged_record_is_named(mirror: Mirror, tmp_path: Path) -> None:
    chosen = make_set(mirror.put("set.zip", Served(ARCHIVE)))
    get_set(chosen, tmp_path)
    (tmp_path / "fly.json").write_text("{}")
    with pytest.raises(WorkspaceError, match=r"fly\.json: the record of a download is damaged"):
        get_set(chosen, tmp_path)


def test_an_unknown_set_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"no such data set; expected one of isbi2012, vnc, .* found|segem data list"):
        find_set("isbi")


@pytest.mark.parametrize("chosen", PUBLIC_SETS, ids=lambda chosen: chosen.name)
def test_the_table_is_sound(chosen: PublicSet) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", chosen.name)
    assert all((chosen.what, chosen.labels, chosen.licence, chosen.cite, chosen.volumes, chosen.files))
    assert all(nm > 0 for nm in chosen.voxel_nm)
    for file in chosen.files:
        assert Path(file.name).suffix in {".zip", ".hdf"}
        assert all(urlsplit(url).scheme in {"http", "https"} for url in file.urls)
        # Without encryption, only a checksum tells whether the file is the publisher's.
        assert file.checksum or all(url.startswith("https:") for url in file.urls)
        digits = {"sha256": 64, "md5": 32}
        if file.checksum:
            kind, _, value = file.checksum.partition(":")
            assert re.fullmatch(rf"[0-9a-f]{{{digits[kind]}}}", value)


def test_no_two_sets_or_checksums_are_one() -> None:
    files = [file for chosen in PUBLIC_SETS for file in chosen.files]
    assert len({chosen.name for chosen in PUBLIC_SETS}) == len(PUBLIC_SETS)
    assert len({file.name for file in files}) == len(files)
    checksums = [file.checksum for file in files if file.checksum]
    assert len(set(checksums)) == len(checksums)


@pytest.mark.parametrize("chosen", PUBLIC_SETS, ids=lambda chosen: chosen.name)
def test_the_line_that_is_printed_is_one_that_ingest_understands(chosen: PublicSet, tmp_path: Path) -> None:
    for line in chosen.ingest_lines(tmp_path / chosen.name):
        with pytest.raises(InputError, match="no such file or folder"):
            app([*shlex.split(line)[1:], "--workspace", str(tmp_path / "w")], standalone_mode=False)


def test_what_is_downloaded_can_be_ingested_by_the_lines_that_are_printed(
    mirror: Mirror, tmp_path: Path, em_data: Path
) -> None:
    # An archive as the publisher packs it, of the real files.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted((em_data / "isbi2012").glob("*.tif")):
            archive.write(path, f"ISBI-2012-challenge/{path.name}")
    url = mirror.put("ISBI-2012-challenge.zip", Served(buffer.getvalue(), breaks_after=[2**20]))
    chosen = find_set("isbi2012")
    made = get_set(replace(chosen, files=(Remote("ISBI-2012-challenge.zip", (url,)),)), tmp_path)
    (labelled, _) = made.ingest
    app([*shlex.split(labelled)[1:], "--box", ":2,:,:", "--workspace", str(tmp_path / "w")], standalone_mode=False)
    truth = Volume.open(Workspace(tmp_path / "w").volume("isbi")).label("truth")
    labels = tifffile.imread(em_data / "isbi2012" / "train-labels.tif")[:2]
    assert np.array_equal(np.asarray(truth[:]) == 1, labels == 0), "membrane is 0 in this set"


class Page:
    """What a command prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: str) -> tuple[str, str]:
        self.capsys.readouterr()
        app(list(words), standalone_mode=False)
        out, err = self.capsys.readouterr()
        return out, err


@pytest.fixture
def page(capsys: pytest.CaptureFixture[str]) -> Page:
    return Page(capsys)


def test_the_list_names_every_set(page: Page) -> None:
    out, _ = page("data", "list")
    assert all(chosen.name in out for chosen in PUBLIC_SETS)
    values = json.loads(page("data", "list", "--json")[0])
    assert [each["name"] for each in values["sets"]] == [chosen.name for chosen in PUBLIC_SETS]
    assert values["sets"][1]["files"][0]["checksum"].startswith("sha256:f7bd0db0")


def test_licence_and_citation_are_said_before_the_download(
    page: Page, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = mirror.put("set.zip", Served(ARCHIVE))
    vnc = replace(find_set("vnc"), files=(Remote("set.zip", (url,)),))
    monkeypatch.setattr("segem.stages.volumes.data.find_set", lambda name: vnc)
    out, err = page("data", "get", "vnc", "--to", str(tmp_path))
    assert err.splitlines()[:3] == [
        "vnc (45 MB): ventral nerve cord of a fly larva, ssTEM, 20 labelled and 20 other sections of 1024 x 1024",
        "licence: CC-BY-NC-SA-3.0",
        "cite: doi:10.6084/m9.figshare.856713",
    ]
    assert out.splitlines()[0] == f"{tmp_path}/vnc: downloaded"
    assert out.splitlines()[1].startswith(f"next: segem ingest {tmp_path}/vnc/stack1/raw --name stack1")
    assert page("data", "get", "vnc", "--to", str(tmp_path))[0].startswith(f"{tmp_path}/vnc: is there already")
    mirror.put("set.zip", Served(status=500))
    with pytest.raises(InputError):
        app(["data", "get", "vnc", "--to", str(tmp_path / "b")], standalone_mode=False)
    assert "licence: CC-BY-NC-SA-3.0" in capsys.readouterr().err, "also where nothing comes of it"


def test_a_set_is_completed_by_its_beginning() -> None:
    from segem.cli.complete import complete_set

    context = typer.Context(typer.main.get_command(app))
    assert complete_set(context, "cremi-b") == ["cremi-b", "cremi-b-padded"]
