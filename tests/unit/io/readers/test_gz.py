"""gzip: what is within is read as if it were unpacked, and nothing fills a disk."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile

from segem.errors import InputError
from segem.geometry import Box
from segem.io.readers import gz, list_source_files, open_stack, version_of
from segem.io.readers.table import TIFF

DATA = np.random.default_rng(0).integers(0, 255, (3, 20, 30), np.uint8)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that files are unpacked into."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def packed(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


def tiff(folder: Path) -> bytes:
    tifffile.imwrite(folder / "plain.tif", DATA, photometric="minisblack")
    return (folder / "plain.tif").read_bytes()


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught, open_stack(path) as stack:
        stack.read(Box.of_shape(stack.shape))
    line = str(caught.value)
    assert line.startswith(str(path)), line
    assert "Fix: " in line
    return line


def test_what_is_within_is_read_and_nothing_is_left(tmp_path: Path, scratch: Path) -> None:
    path = packed(tmp_path / "a.tif.gz", tiff(tmp_path))
    with open_stack(path) as stack:
        assert np.array_equal(stack.read(Box.of_shape(stack.shape)), DATA)
        assert stack.label_of(1) == f"{path} page 2 (z=1)"
        assert len(list(scratch.iterdir())) == 1
    assert list(scratch.iterdir()) == []
    assert version_of(path) == f"gzip 1, TIFF {TIFF.version}"
    assert list_source_files(path) == [path]


def test_an_mrc_file_keeps_its_voxel_size(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "a.map.gz", compression="gzip") as file:
        file.set_data(DATA.astype(np.int16))
        file.voxel_size = (40, 40, 500)
    with open_stack(tmp_path / "a.map.gz") as stack:
        assert np.array_equal(stack.read(Box.of_shape(stack.shape)), DATA)
        voxel = stack.found.voxel
    assert voxel is not None
    assert (voxel.z_nm, voxel.y_nm, voxel.x_nm) == pytest.approx((50, 4, 4))


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(len(content) * share)]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "the file is empty"),
    "its first bytes": (lambda content: content[:6], "damaged"),
    "half": (cut(0.5), "damaged"),
    "no checksum": (lambda content: content[:-8], "damaged"),
    "another checksum": (lambda content: content[:-8] + bytes(4) + content[-4:], "damaged"),
    "not packed": (lambda content: gzip.decompress(content), "damaged"),
    "zeros": (lambda content: bytes(len(content)), "damaged"),
    "a damaged block": (lambda content: content[:300] + bytes(300) + content[600:], "damaged"),
    "something else after it": (lambda content: content + b"more", "damaged"),
    "a damaged file within": (lambda content: gzip.compress(gzip.decompress(content)[:500]), "damaged"),
    "nothing within": (lambda _: gzip.compress(b""), "the file is empty"),
    "a text within": (lambda _: gzip.compress(b"see the readme"), "damaged"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_refused_in_words(tmp_path: Path, scratch: Path, damage: Callable[[bytes], bytes], said: str) -> None:
    path = packed(tmp_path / "a.tif.gz", tiff(tmp_path))
    path.write_bytes(damage(path.read_bytes()))
    line = refused(path)
    assert said in line
    assert str(scratch) not in line, "the file is named that was given"
    assert list(scratch.iterdir()) == []


def test_a_file_made_to_fill_disks_is_stopped(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gz, "UNCHECKED_BYTES", 2**20)
    line = refused(packed(tmp_path / "a.tif.gz", bytes(40 * 2**20)))
    assert "it unpacks to implausibly much" in line
    assert "gunzip" in line
    assert list(scratch.iterdir()) == []


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.tif.gz", tiff(tmp_path))
    full = tmp_path / "full"
    full.mkdir()

    class Full:
        """A folder whose files take nothing, as /dev/full does."""

        def __init__(self, prefix: str) -> None:
            self.name = str(full)
            (full / "a.tif").unlink(missing_ok=True)
            (full / "a.tif").symlink_to("/dev/full")

        def cleanup(self) -> None:
            (full / "a.tif").unlink()

    monkeypatch.setattr(tempfile, "TemporaryDirectory", Full)
    line = refused(path)
    assert "no room to unpack it" in line
    assert "TMPDIR" in line


@pytest.mark.parametrize("name", ["a.gz", "a.txt.gz", "a.tif.gz.gz"])
def test_what_is_not_read_is_not_unpacked(tmp_path: Path, name: str) -> None:
    assert "unknown kind of file" in refused(packed(tmp_path / name, b"text"))


def test_an_archive_of_maps(em_data: Path) -> None:
    path = em_data / "formats" / "emd_3197.map.gz"
    with open_stack(path) as stack, mrcfile.open(path) as file:
        assert np.array_equal(stack.read(Box.of_shape(stack.shape)), file.data)
        assert stack.found.voxel is not None
        assert stack.found.voxel.x_nm == pytest.approx(float(file.voxel_size.x) / 10)
