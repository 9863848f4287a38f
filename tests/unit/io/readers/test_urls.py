"""Sources below a URL: read in place or downloaded from a real server, or refused in words."""

from __future__ import annotations

import gzip
import hashlib
import re
import socket
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from segem.config import IngestConfig, LabelSource, Manifest, Selection, Url, load_manifest, read_source
from segem.errors import ConfigError
from segem.geometry import Box
from segem.io.readers import fingerprint_files, open_stack, remote, version_of
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.volumes.ingest import ingest
from segem.stages.volumes.settings import describe_settings
from tests.unit.io.readers.sources import read, refused

DATA = np.random.default_rng(0).integers(1, 256, (6, 40, 60), np.uint8)


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, with ranges of bytes and answers of every kind."""

    asked: list[str]
    server: Any
    without_ranges = False

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        if (found := re.match(r"/status/(\d+)", path)) is not None:
            self.send_error(int(found[1]))
        elif path.startswith("/leads-away"):
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/a.tif")
            self.end_headers()
        elif path.startswith("/leads-round"):
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
        elif path.startswith("/short"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"x" * 10)
        elif path.startswith("/busy"):
            # The first time each is asked for, it is not to be had.
            if self.asked.count(self.path) == 1:
                self.send_error(503)
            else:
                self.path = self.path.removeprefix("/busy")
                self._send_part()
        elif path.startswith("/silent"):
            self.server.released.wait(20)
            self.close_connection = True
        else:
            self._send_part()

    do_HEAD = do_GET  # noqa: N815 - as the library calls it

    def _send_part(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        asked = None if self.without_ranges else re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        start, stop = 0, len(content)
        if asked and asked[1]:
            start, stop = int(asked[1]), int(asked[2] or stop - 1) + 1
        elif asked:
            start = stop - int(asked[2])
        part = content[start:stop]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()[:9]}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    released: threading.Event
    root: Path
    handler: type[Handler]
    asked: list[str]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    root = tmp_path / "served"
    root.mkdir()

    class Fresh(Handler):
        asked: list[str] = []

    with Server(("127.0.0.1", 0), partial(Fresh, directory=str(root))) as made:
        made.released, made.root, made.asked, made.handler = threading.Event(), root, Fresh.asked, Fresh
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.released.set()
        made.shutdown()
        thread.join()


def url(server: Server, name: str) -> Url:
    return Url(f"http://127.0.0.1:{server.server_address[1]}/{name}")


def write_files(root: Path) -> None:
    tifffile.imwrite(root / "a.tif", DATA, photometric="minisblack")
    (root / "a.tif.gz").write_bytes(gzip.compress((root / "a.tif").read_bytes()))
    np.save(root / "a.npy", DATA)
    with h5py.File(root / "a.h5", "w") as file:
        file["raw"] = DATA
        file["labels"] = DATA % 2


@pytest.mark.parametrize("name", ["a.tif", "a.tif.gz", "a.npy", "a.h5", "a.tif?download=1"])
def test_a_file_is_downloaded_for_as_long_as_it_is_open(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_files(server.root)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    chosen = Selection(dataset="raw") if name == "a.h5" else Selection()
    with open_stack(url(server, name), chosen) as stack:
        assert np.array_equal(stack.read(Box.of_shape(stack.shape)), DATA)
        file = server.root / name.partition("?")[0]
        assert stack.found.digest == hashlib.sha256(file.read_bytes()).hexdigest()
        assert stack.label_of(1).startswith(str(url(server, name).partition("?")[0]))
        assert stack.source == url(server, name)
        assert len(list((tmp_path / "tmp").glob(f"segem-*/{file.name}"))) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_errors_of_a_downloaded_file_name_the_url(server: Server) -> None:
    write_files(server.root)
    told = refused(url(server, "a.h5"))
    assert told.startswith(f"{url(server, 'a.h5')}: which dataset is meant?")
    (server.root / "b.tif").write_bytes((server.root / "a.tif").read_bytes()[:500])
    assert refused(url(server, "b.tif")).startswith(str(url(server, "b.tif")))
    assert "unknown kind of file" in refused(url(server, "a.txt"))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_box_of_a_remote_image_reads_only_its_chunks(server: Server, zarr_format: Any) -> None:
    group = zarr.create_group(str(server.root / "a.zarr"), zarr_format=zarr_format)
    group.create_array("0", data=DATA, chunks=(2, 20, 20))
    image = {"axes": [{"name": name} for name in "zyx"], "datasets": [{"path": "0"}]}
    group.attrs.update({"ome": {"multiscales": [image]}} if zarr_format == 3 else {"multiscales": [image]})
    with open_stack(url(server, "a.zarr")) as stack:
        assert (stack.shape, stack.chunk) == ((6, 40, 60), (2, 20, 20))
        server.asked.clear()
        found = stack.within(Box((2, 0, 20), (4, 20, 60))).read(Box((0, 0, 0), (2, 20, 40)))
        assert np.array_equal(found, DATA[2:4, :20, 20:60])
        names = ["c/1/0/1", "c/1/0/2"] if zarr_format == 3 else ["1.0.1", "1.0.2"]
        assert sorted(server.asked) == [f"/a.zarr/0/{name}" for name in names]
        assert not stack.warnings
    assert np.array_equal(read(url(server, "a.zarr/0")), DATA)
    assert np.array_equal(read(url(server, "a.zarr"), dataset="0"), DATA)


def test_chunks_that_are_missing_elsewhere(server: Server) -> None:
    zarr.create_array(str(server.root / "a"), data=DATA, chunks=(2, 20, 20), fill_value=3)
    (server.root / "a" / "c" / "1" / "0" / "1").unlink()
    told = refused(url(server, "a"))
    assert "/a: 1 of 18 chunks are missing; found the first missing one is c/1/0/1" in told
    with open_stack(url(server, "a"), Selection(unwritten="fill")) as stack:
        assert np.array_equal(stack.section(0), DATA[0])
        assert not stack.warnings
        assert (stack.section(2)[:20, 20:40] == 3).all()
        (warning,) = stack.warnings
    assert "1 of 12 chunks (8.3%) were never written, and are taken for their fill value 3" in warning


@pytest.mark.parametrize("without_ranges", [False, True])
def test_shards_elsewhere(server: Server, without_ranges: bool) -> None:
    server.handler.without_ranges = without_ranges
    array = zarr.create_array(
        str(server.root / "a"), shape=DATA.shape, dtype=np.uint8, chunks=(1, 20, 20), shards=(2, 40, 60)
    )
    array[:5] = DATA[:5]
    with open_stack(url(server, "a"), Selection(unwritten="fill")) as stack:
        assert np.array_equal(stack.read(Box((0, 0, 0), (4, 40, 60))), DATA[:4])
        assert not stack.warnings
        server.asked.clear()
        assert np.array_equal(stack.read(Box((4, 0, 0), (5, 20, 20))), DATA[4:5, :20, :20])
        assert set(server.asked) == {"/a/c/2/0/0"}
        (warning,) = stack.warnings
    assert "6 of 36 chunks" in warning
    assert "6 of 36 chunks are missing; found the first missing one is in the shard c/2/0/0" in refused(
        url(server, "a")
    )


def test_a_busy_server_is_asked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.0)
    zarr.create_array(str(server.root / "a"), data=DATA, chunks=DATA.shape)
    assert np.array_equal(read(url(server, "busy/a")), DATA)
    assert server.asked.count("/busy/a/c/0/0/0") == 2


def test_which_array_of_a_group_that_cannot_be_listed(server: Server) -> None:
    group = zarr.create_group(str(server.root / "a"), zarr_format=2)
    group.create_array("raw", data=DATA)
    assert "no array that is a stack of sections" in refused(url(server, "a"))
    assert np.array_equal(read(url(server, "a"), dataset="raw"), DATA)
    zarr.consolidate_metadata(str(server.root / "a"))
    assert np.array_equal(read(url(server, "a")), DATA)


def test_n5_and_precomputed_elsewhere(server: Server) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    for name, spec in {
        "a.n5/raw": {
            "driver": "n5",
            "metadata": {
                "compression": {"type": "raw"},
                "dataType": "uint8",
                "dimensions": [60, 40, 6],
                "blockSize": [20, 20, 2],
            },
        },
        "pre": {
            "driver": "neuroglancer_precomputed",
            "multiscale_metadata": {"data_type": "uint8", "num_channels": 1, "type": "image"},
            "scale_metadata": {
                "resolution": [4, 4, 40],
                "size": [60, 40, 6],
                "encoding": "raw",
                "chunk_size": [20, 20, 2],
            },
        },
    }.items():
        where = {"kvstore": {"driver": "file", "path": f"{server.root / name}/"}}
        store = tensorstore.open({**spec, **where}, create=True).result()
        store.write(DATA.T.reshape(store.shape)).result()
    assert np.array_equal(read(url(server, "a.n5/raw")), DATA)
    with open_stack(url(server, "pre")) as stack:
        server.asked.clear()
        assert np.array_equal(stack.read(Box((2, 0, 0), (4, 20, 40))), DATA[2:4, :20, :40])
        assert len(server.asked) == 2
    (server.root / "a.n5" / "raw" / "1" / "0" / "2").unlink()
    assert "1 of 18 chunks are missing; found the first missing one is chunk (1, 0, 2)" in refused(
        url(server, "a.n5/raw")
    )
    with open_stack(url(server, "a.n5/raw"), Selection(unwritten="fill")) as stack:
        assert (stack.read(Box.of_shape(stack.shape))[4:, :20, 20:40] == 0).all()
        assert "1 of 18 chunks" in stack.warnings[0]


@pytest.mark.parametrize("name", ["gone.tif", "gone.zarr"])
def test_nothing_at_an_address(server: Server, name: str) -> None:
    told = refused(url(server, name))
    assert ("there is nothing at this address" in told) or ("unknown kind of file" in told)


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("status/403", "access is denied; expected a public source"),
        ("status/401", "access is denied; expected a public source"),
        ("status/500", "the server refuses; found status 500"),
        ("leads-away", "the address leads elsewhere"),
        ("leads-round", "the address leads elsewhere"),
    ],
)
def test_answers_that_are_errors(server: Server, place: str, name: str, expected: str) -> None:
    assert expected in refused(url(server, f"{place}/{name}"))


def test_a_download_that_breaks_off(server: Server) -> None:
    assert "Fix: " in refused(url(server, "short.tif"))


@pytest.mark.parametrize("name", ["silent/a.tif", "silent/a.zarr"])
def test_a_server_that_falls_silent(server: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.2)
    assert "the server does not answer; found nothing for 0.2 seconds" in refused(url(server, name))


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_a_server_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "it cannot be read" in refused(Url(f"http://127.0.0.1:{port}/{name}"))


@pytest.mark.parametrize("text", ["s3://bucket/a.tif", "s3://bucket/a.zarr"])
def test_a_store_without_what_reads_it(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert "what reads such URLs is not installed" in (told := refused(Url(text)))
    assert told.endswith("Fix: pip install segem[s3]")


def test_a_file_larger_than_the_disk(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(server.root)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert "there is not enough room to download it" in refused(url(server, "a.tif"))


def test_the_fingerprint_changes_with_what_is_served(server: Server) -> None:
    write_files(server.root)
    zarr.create_array(str(server.root / "a"), data=DATA, chunks=DATA.shape)
    for name, change in {
        "a.tif": lambda: tifffile.imwrite(server.root / "a.tif", DATA[:5], photometric="minisblack"),
        "a": lambda: zarr.create_array(str(server.root / "a"), data=DATA[:5], chunks=DATA.shape, overwrite=True),
    }.items():
        before = fingerprint_files(url(server, name))
        assert fingerprint_files(url(server, name)) == before
        change()
        assert fingerprint_files(url(server, name)) != before
    assert version_of(url(server, "a")).startswith("zarr ")
    assert version_of(url(server, "a.tif")).startswith("TIFF ")


def test_a_url_is_ingested_and_skipped_while_it_is_the_same(server: Server, tmp_path: Path) -> None:
    write_files(server.root)
    workspace = Workspace(tmp_path / "w")
    labels = LabelSource(source=str(url(server, "a.h5")), dataset="labels", membrane="zero")
    config = IngestConfig(name="v", source=str(url(server, "a.tif")), voxel_nm=(50, 4, 4), labels=labels)
    assert not ingest(config, workspace).skipped
    assert ingest(config, workspace).skipped
    volume = Volume.open(workspace.volume("v"))
    assert np.array_equal(volume.raw[:], DATA)
    noted = volume.attributes
    assert noted["source"] == noted["settings"]["source"] == url(server, "a.tif")
    assert noted["downloads"] == {
        str(url(server, name)): hashlib.sha256((server.root / name).read_bytes()).hexdigest()
        for name in ("a.tif", "a.h5")
    }
    tifffile.imwrite(server.root / "a.tif", 255 - DATA, photometric="minisblack")
    assert not ingest(config, workspace).skipped
    assert np.array_equal(Volume.open(workspace.volume("v")).raw[:], 255 - DATA)


def test_a_configuration_keeps_a_url_as_it_is() -> None:
    config = IngestConfig(name="v", source="https://example.org/a.ome.zarr/", voxel_nm=(50, 4, 4))
    assert config.source == "https://example.org/a.ome.zarr"
    assert isinstance(config.source, Url)
    again = IngestConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert isinstance(again.source, Url)
    assert describe_settings(config)["source"] == "https://example.org/a.ome.zarr"
    assert config.source.name == "a.ome.zarr"
    assert config.source.suffix == ".zarr"
    path = IngestConfig(name="v", source="a.tif", voxel_nm=(50, 4, 4))
    assert path.source == Path("a.tif")
    assert IngestConfig.model_validate_json(path.model_dump_json()) == path
    assert "format': 'path'" in str(IngestConfig.model_json_schema())


def test_a_manifest_with_a_url(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(
        "name: m\\nvolumes:\\n- {name: v, source: 's3://bucket/a.zarr', voxel_nm: [50, 4, 4],"
        " labels: {source: t.tif, membrane: zero}}\\n".replace("\\n", "\n")
    )
    manifest = load_manifest(tmp_path / "m.yaml")
    assert isinstance(manifest, Manifest)
    (volume,) = manifest.volumes
    assert volume.source == Url("s3://bucket/a.zarr")
    assert volume.labels.source == tmp_path / "t.tif"
    assert volume.ingest_config().source == Url("s3://bucket/a.zarr")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:secret@example.org/a.tif", "no password"),
        ("https://example.org/a.tif?X-Amz-Signature=abc", "no password"),
        ("https://example.org/a.tif?access_token=abc", "no password"),
        ("ftp://example.org/a.tif", "a URL begins with http://"),
        ("precomputed://gs://bucket/a", "a URL begins with http://"),
        ("https:///a.tif", "and a host"),
        (Path("https://example.org/a.tif"), "as text"),
        (7, "a path or a URL"),
    ],
)
def test_what_is_no_source(text: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        read_source(text)
    assert "secret" not in str(caught.value)


def test_a_secret_is_not_shown_by_the_error_about_it(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(
        "name: m\nvolumes: [{name: v, source: 'https://me:hidden@example.org/a', voxel_nm: [50, 4, 4]}]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_manifest(tmp_path / "m.yaml")
    assert "no password" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_file_by_its_url() -> None:
    assert read_source("file:///data/a%20b.tif") == Path("/data/a b.tif")
