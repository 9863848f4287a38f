"""Ingest: the volume equals its source, is skipped or replaced as a whole, and bad input never leaves one."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import ome_zarr_models
import pytest
import tifffile
import yaozarrs
import zarr
from PIL import Image

import segem
from segem.config import BaselineConfig, IngestConfig, LabelSource
from segem.errors import ConfigError, InputError, SegemError, WorkspaceError
from segem.io.files import locked
from segem.io.run import source_digest
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.verify import verify
from segem.stages.volumes import ingest as ingest_module
from segem.stages.volumes.ingest import IngestResult, ingest
from tests.fabricate import tissue

VOXEL = (50.0, 4.0, 4.0)
SHAPE = (11, 270, 300)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w")


def image(dtype: str = "u1", shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, np.dtype(dtype), endpoint=True)


def truth() -> np.ndarray:
    return (np.random.default_rng(1).random(SHAPE) < 0.25).astype(np.uint8)


def tiff(path: Path, data: np.ndarray, **how) -> Path:
    tifffile.imwrite(path, data, **({"photometric": "minisblack"} | how))
    return path


def run(
    workspace: Workspace,
    source: Path,
    labels: Path | None = None,
    membrane: object = "nonzero",
    *,
    replace: bool = False,
    **more,
) -> IngestResult:
    labelled = None if labels is None else LabelSource(source=labels, membrane=membrane)
    config = IngestConfig(**({"name": "v", "source": source, "voxel_nm": VOXEL, "labels": labelled} | more))
    return ingest(config, workspace, replace=replace)


def with_labels(workspace: Workspace, folder: Path, labels: LabelSource, *, replace: bool = False) -> IngestResult:
    config = IngestConfig(name="v", source=tiff(folder / "a.tif", image()), voxel_nm=VOXEL, labels=labels)
    return ingest(config, workspace, replace=replace)


def refused(workspace: Workspace, source: Path, *args, kind: type[SegemError] = InputError, **more) -> str:
    with pytest.raises(kind) as caught:
        run(workspace, source, *args, **more)
    assert workspace.volumes() == []
    assert nothing_left(workspace)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nothing_left(workspace: Workspace) -> bool:
    return not list((workspace.root / "volumes").iterdir())


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_the_volume_equals_its_source(tmp_path: Path, workspace: Workspace, dtype: str, byteorder: str) -> None:
    data = image(dtype)
    result = run(workspace, tiff(tmp_path / "a.tif", data, byteorder=byteorder))
    assert result == IngestResult(workspace.volume("v"), "v", SHAPE, VOXEL, "given", skipped=False, warnings=())
    volume = Volume.open(result.path)
    assert np.array_equal(volume.raw[...], data)
    assert (volume.dtype, volume.voxel_size.zyx) == (np.dtype(dtype), VOXEL)
    noted = volume.attributes
    assert noted["source_digest"] == hashlib.sha256(data.astype(f"<{dtype}").tobytes()).hexdigest()
    assert (noted["sections"], noted["dtype"], noted["labels"], noted["warnings"]) == (11, str(data.dtype), None, [])
    assert noted["segem_version"] == segem.__version__
    assert noted["source"] == str(tmp_path / "a.tif")
    assert volume.statistics.mean == pytest.approx(data.mean(dtype=float))
    assert volume.statistics.std == pytest.approx(data.std(dtype=float))
    assert (volume.statistics.minimum, volume.statistics.maximum) == (data.min(), data.max())
    assert noted["statistics"]["constant_sections"] == []
    assert workspace.volumes() == ["v"]
    assert [path.name for path in (workspace.root / "volumes").iterdir()] == ["v.ome.zarr"]


@pytest.mark.parametrize(
    ("stored", "membrane"),
    [
        (lambda t: (1 - t) * 255, "zero"),
        (lambda t: t, "nonzero"),
        (lambda t: t * 7, "nonzero"),
        (lambda t: t * 128 + 3, 131),
        (lambda t: t.astype(bool), "nonzero"),
        (lambda t: t.astype(bool), 1),
        (lambda t: t.astype(np.int16) - 1, 0),
        (lambda t: t.astype(np.float32) * 2, 2),
        (lambda t: t.astype(np.uint64) * (2**64 - 1), 2**64 - 1),
    ],
)
def test_membrane_is_one_whatever_the_source_says(tmp_path: Path, workspace: Workspace, stored, membrane) -> None:
    source, labels = tiff(tmp_path / "a.tif", image()), tmp_path / "t.h5"
    with h5py.File(labels, "w") as file:
        file["t"] = stored(truth())
    volume = Volume.open(run(workspace, source, labels, membrane).path)
    assert np.array_equal(volume.label("truth")[...], truth())
    assert volume.label("truth").dtype == np.uint8
    assert volume.attributes["labels"] == {
        "source": str(labels),
        "membrane": membrane,
        "membrane_fraction": pytest.approx(truth().mean()),
    }


@pytest.mark.parametrize(
    ("membrane", "painted"), [("nonzero", (0, 255)), ("zero", (255, 0)), (255, (0, 255)), (3, (5, 3))]
)
def test_pixels_to_ignore_are_unknown(tmp_path: Path, workspace: Workspace, membrane, painted: tuple[int, int]) -> None:
    labels, expected = np.where(truth(), painted[1], painted[0]).astype(np.uint8), truth()
    labels[1:, 20:], expected[1:, 20:] = 128, 2
    labels[4], expected[4] = 128, 2
    source = LabelSource(source=tiff(tmp_path / "t.tif", labels), membrane=membrane, ignore=128)
    volume = Volume.open(with_labels(workspace, tmp_path, source).path)
    assert np.array_equal(volume.label("truth")[...], expected)
    known = expected != 2
    assert volume.attributes["labels"] == {
        "source": str(tmp_path / "t.tif"),
        "membrane": membrane,
        "membrane_fraction": pytest.approx(expected[known].mean()),
        "ignore": 128,
        "known_fraction": pytest.approx(known.mean()),
        "unknown_sections": [4],
    }


def test_another_value_to_ignore_makes_another_volume(tmp_path: Path, workspace: Workspace) -> None:
    labels = LabelSource(source=tiff(tmp_path / "t.tif", truth() + truth()[::-1]), membrane="nonzero")
    with_labels(workspace, tmp_path, labels)
    other = labels.model_copy(update={"ignore": 2})
    with pytest.raises(ConfigError, match="ignore"):
        with_labels(workspace, tmp_path, other)
    assert not with_labels(workspace, tmp_path, other, replace=True).skipped


def test_labels_of_which_nothing_is_known_are_refused(tmp_path: Path, workspace: Workspace) -> None:
    labels = LabelSource(source=tiff(tmp_path / "t.tif", truth() * 0 + 7), membrane="nonzero", ignore=7)
    unknown = r"every voxel of the labels has the value to ignore.*found value 7 only.*--ignore"
    with pytest.raises(InputError, match=unknown):
        with_labels(workspace, tmp_path, labels)
    assert nothing_left(workspace)


def test_a_value_to_ignore_that_never_occurs_is_a_warning(tmp_path: Path, workspace: Workspace) -> None:
    labels = LabelSource(source=tiff(tmp_path / "t.tif", truth()), membrane=1, ignore=254)
    (warning,) = with_labels(workspace, tmp_path, labels).warnings
    assert warning == "no voxel of the labels has the value 254 to ignore: all of them count"


def test_two_validators_accept_the_volume(tmp_path: Path, workspace: Workspace) -> None:
    result = run(workspace, tiff(tmp_path / "a.tif", image()), tiff(tmp_path / "t.tif", truth()))
    yaozarrs.validate_zarr_store(str(result.path))
    yaozarrs.validate_zarr_store(str(result.path / "labels" / "truth"))
    assert isinstance(ome_zarr_models.open_ome_zarr(zarr.open_group(str(result.path))), ome_zarr_models.v05.Image)
    labels = zarr.open_group(str(result.path / "labels" / "truth"))
    assert isinstance(ome_zarr_models.open_ome_zarr(labels), ome_zarr_models.v05.ImageLabel)
    coarse = zarr.open_array(str(result.path / "1"))[...]
    fine = image().astype(float).reshape(11, 135, 2, 150, 2).mean(axis=(2, 4))
    assert np.array_equal(coarse, np.floor(fine + 0.5))
    assert zarr.open_array(str(result.path / "labels" / "truth" / "1"))[...].mean() > truth().mean()


def test_folders_and_datasets(tmp_path: Path, workspace: Workspace) -> None:
    for folder in ("raw", "truth"):
        (tmp_path / folder).mkdir()
    for z, (a, b) in enumerate(zip(image(), truth(), strict=True)):
        tiff(tmp_path / "raw" / f"{z}.tif", a, byteorder=">")
        Image.fromarray(b.astype(bool)).save(tmp_path / "truth" / f"{z}.png")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"], file["mask"] = image(), truth()
    first = Volume.open(run(workspace, tmp_path / "raw", tmp_path / "truth").path)
    labels = LabelSource(source=tmp_path / "a.h5", membrane="nonzero", dataset="mask")
    config = IngestConfig(name="w", source=tmp_path / "a.h5", dataset="raw", voxel_nm=VOXEL, labels=labels)
    second = Volume.open(ingest(config, workspace).path)
    for volume in (first, second):
        assert np.array_equal(volume.raw[...], image())
        assert np.array_equal(volume.label("truth")[...], truth())
    assert first.attributes["source_digest"] == second.attributes["source_digest"]
    assert workspace.volumes() == ["v", "w"]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (2, 2100, 3), (9, 3, 2100)])
def test_odd_shapes(tmp_path: Path, workspace: Workspace, shape: tuple[int, int, int]) -> None:
    data = image(shape=shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = data
    assert np.array_equal(Volume.open(run(workspace, tmp_path / "a.h5").path).raw[...], data)


def test_labelled_sections_are_known_by_digests_of_their_own(tmp_path: Path, workspace: Workspace) -> None:
    data = image()
    data[2], data[5] = 7, data[4]
    source, labels = tiff(tmp_path / "a.tif", data), tiff(tmp_path / "t.tif", truth())
    assert "section_digests" not in Volume.open(run(workspace, source, name="bare").path).attributes
    path = run(workspace, source, labels).path
    digests = Volume.open(path).attributes["section_digests"]
    assert digests[0] == hashlib.sha256(data[0].tobytes()).hexdigest()[:16]
    # A section of one grey level is nobody's tissue.
    assert digests[2] == ""
    assert (len(digests), len(set(digests)), digests[4]) == (11, 10, digests[5])
    big = Volume.open(run(workspace, tiff(tmp_path / "b.tif", data, byteorder=">"), labels, name="big").path)
    assert big.attributes["section_digests"] == digests
    # A volume of an earlier version has none, and is made again.
    assert run(workspace, source, labels).skipped
    file = path / "zarr.json"
    held = json.loads(file.read_text())
    del held["attributes"]["segem"]["section_digests"]
    file.write_text(json.dumps(held))
    assert not run(workspace, source, labels).skipped
    assert Volume.open(path).attributes["section_digests"] == digests


def test_the_same_ingest_is_skipped(tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    data = image()
    data[3] = 9
    source, labels = tiff(tmp_path / "a.tif", data), tiff(tmp_path / "t.tif", truth())
    first = run(workspace, source, labels)
    monkeypatch.setattr(ingest_module, "_write", lambda *_: pytest.fail("written again"))
    again = run(workspace, source, labels)
    assert again.skipped
    assert again.shape == SHAPE
    assert again.warnings == first.warnings != ()


def test_a_volume_that_is_damaged_on_disk_is_made_again_when_asked(tmp_path: Path, workspace: Workspace) -> None:
    source = tiff(tmp_path / "a.tif", image())
    config = IngestConfig(name="v", source=source, voxel_nm=VOXEL)
    ingest(config, workspace)
    shard = workspace.volume("v") / "0" / "c" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    assert ingest(config, workspace).skipped
    assert not ingest(config, workspace, again=True).skipped
    assert np.array_equal(Volume.open(workspace.volume("v")).raw[...], image())


def test_a_changed_reader_ingests_again(tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiff(tmp_path / "a.tif", image())
    run(workspace, source)
    monkeypatch.setattr(ingest_module, "version_of", lambda _: "TIFF 99")
    assert not run(workspace, source).skipped
    assert run(workspace, source).skipped


def test_a_store_copied_by_half_leaves_no_volume(tmp_path: Path, workspace: Workspace) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), data=image(), chunks=(1, 270, 300))
    (tmp_path / "a.zarr" / "c" / "4" / "0" / "0").unlink()
    assert "1 of 11 chunks are missing; found the first missing one is c/4/0/0" in refused(
        workspace, tmp_path / "a.zarr"
    )


@pytest.mark.parametrize(
    "what", ["source", "labels", "time", "voxel", "polarity", "damage", "lost", "lost label", "unlabelled"]
)
def test_a_changed_ingest_replaces_the_volume(tmp_path: Path, workspace: Workspace, what: str) -> None:
    source, labels = tiff(tmp_path / "a.tif", image()), tiff(tmp_path / "t.tif", truth())
    run(workspace, source, labels)
    more: dict[str, Any] = {}
    if what == "source":
        tiff(source, 255 - image())
    elif what == "labels":
        tiff(labels, 1 - truth())
    elif what == "time":
        os.utime(source, ns=(1, 1))
    elif what == "voxel":
        more["voxel_nm"] = (40.0, 4.0, 4.0)
    elif what == "damage":
        (workspace.volume("v") / "0" / "zarr.json").write_text("{")
    elif what == "lost":
        (workspace.volume("v") / "0" / "c" / "1" / "0" / "0").unlink()
    elif what == "lost label":
        (workspace.volume("v") / "labels" / "truth" / "0" / "c" / "0" / "0" / "0").unlink()
    given = (source, None if what == "unlabelled" else labels, "zero" if what == "polarity" else "nonzero")
    if what in ("voxel", "polarity", "unlabelled"):
        with pytest.raises(ConfigError) as caught:
            run(workspace, *given, **more)
        lost = {"voxel": "voxel-nm 50,4,4", "polarity": "membrane nonzero", "unlabelled": f"labels {labels}"}
        assert f"found {lost[what]}" in str(caught.value)
        assert run(workspace, source, labels).skipped, "what was there is still there"
        more["replace"] = True
    result = run(workspace, *given, **more)
    assert not result.skipped
    volume = Volume.open(result.path)
    assert np.array_equal(volume.raw[...], 255 - image() if what == "source" else image())
    if what == "unlabelled":
        assert volume.labels() == []
    else:
        expected = 1 - truth() if what in ("labels", "polarity") else truth()
        assert np.array_equal(volume.label("truth")[...], expected)
    assert volume.voxel_size.z == (40.0 if what == "voxel" else 50.0)
    assert [path.name for path in (workspace.root / "volumes").iterdir()] == ["v.ome.zarr"]


def test_a_failed_ingest_leaves_the_earlier_volume(tmp_path: Path, workspace: Workspace) -> None:
    source = tiff(tmp_path / "a.tif", image(), compression="zlib")
    run(workspace, source)
    with tifffile.TiffFile(source) as opened:
        at = opened.pages[9].dataoffsets[0]
    content = bytearray(source.read_bytes())
    content[at + 20 : at + 60] = bytes(40)
    source.write_bytes(content)
    with pytest.raises(InputError, match=r"page 10 \(z=9\)"):
        run(workspace, source)
    assert np.array_equal(Volume.open(workspace.volume("v")).raw[...], image())
    assert [path.name for path in (workspace.root / "volumes").iterdir()] == ["v.ome.zarr"]


def test_colour_is_no_intensity(tmp_path: Path, workspace: Workspace) -> None:
    data = np.arange(162 * 3).reshape(2, 9, 9, 3).astype(np.uint8)
    assert "name one by --channel 0 to 2" in refused(workspace, tiff(tmp_path / "a.tif", data, photometric="rgb"))


@pytest.mark.parametrize(
    ("labels", "expected", "found"),
    [
        (truth()[:-1], "(11, 270, 300)", "(10, 270, 300)"),
        (truth()[:, 1:], "(11, 270, 300)", "(11, 269, 300)"),
        (truth()[:, :150, :135], "(11, 270, 300)", "(11, 150, 135)"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, workspace: Workspace, labels, expected: str, found: str) -> None:
    message = refused(workspace, tiff(tmp_path / "a.tif", image()), tiff(tmp_path / "t.tif", labels))
    assert message.startswith(f"{tmp_path}/t.tif: the labels do not fit the image; expected (z, y, x) {expected}")
    assert f"found {found}" in message


def test_labels_that_are_not_numbers(tmp_path: Path, workspace: Workspace) -> None:
    labels = truth().astype(np.float32)
    labels[4, 3, 2] = np.nan
    message = refused(workspace, tiff(tmp_path / "a.tif", image()), tiff(tmp_path / "t.tif", labels))
    assert "page 5 (z=4): the labels hold values that are not numbers" in message


def test_a_value_that_never_occurs(tmp_path: Path, workspace: Workspace) -> None:
    message = refused(workspace, tiff(tmp_path / "a.tif", image()), tiff(tmp_path / "t.tif", truth() * 255), 128)
    assert "no voxel of the labels has the value 128 that means membrane; found values 0, 255" in message


@pytest.mark.parametrize(
    ("labels", "membrane", "warning"),
    [
        (np.zeros(SHAPE, np.uint8), "zero", "one class only: 100% membrane"),
        (np.zeros(SHAPE, np.uint8), "nonzero", "one class only: 0% membrane"),
        (np.full(SHAPE, 7, np.uint8), 7, "one class only: 100% membrane"),
        (truth(), "zero", "75% of the labels is membrane: check the polarity (now: zero)"),
    ],
)
def test_doubtful_labels_are_a_warning(tmp_path: Path, workspace: Workspace, labels, membrane, warning: str) -> None:
    result = run(workspace, tiff(tmp_path / "a.tif", image()), tiff(tmp_path / "t.tif", labels), membrane)
    assert len(result.warnings) == 1
    assert warning in result.warnings[0]
    assert Volume.open(result.path).attributes["warnings"] == list(result.warnings)


@pytest.mark.parametrize("value", [0, 255])
def test_constant_sections_are_a_warning(tmp_path: Path, workspace: Workspace, value: int) -> None:
    data = image()
    data[[0, 7]] = value
    result = run(workspace, tiff(tmp_path / "a.tif", data))
    assert len(result.warnings) == 1
    assert "2 of 11 sections hold one intensity only" in result.warnings[0]
    assert "page 1 (z=0)" in result.warnings[0]
    assert "page 8 (z=7)" in result.warnings[0]
    assert Volume.open(result.path).attributes["statistics"]["constant_sections"] == [0, 7]


def test_a_constant_volume_has_finite_statistics(tmp_path: Path, workspace: Workspace) -> None:
    volume = Volume.open(run(workspace, tiff(tmp_path / "a.tif", np.zeros(SHAPE, np.uint8))).path)
    assert (volume.statistics.mean, volume.statistics.std) == (0.0, 0.0)


def test_missing_sources(tmp_path: Path, workspace: Workspace) -> None:
    assert "no such file or folder" in refused(workspace, tmp_path / "gone.tif")
    source = tiff(tmp_path / "a.tif", image())
    assert "gone.tif: no such file or folder" in refused(workspace, source, tmp_path / "gone.tif")


def test_a_source_that_changes_while_it_is_read(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiff(tmp_path / "a.tif", image())
    write = ingest_module._write

    def touched(*args: Any) -> tuple[str, ...]:
        warnings = write(*args)
        os.utime(source, ns=(1, 1))
        return warnings

    monkeypatch.setattr(ingest_module, "_write", touched)
    assert "the source changed while it was read" in refused(workspace, source)


def test_one_name_is_ingested_once_at_a_time(tmp_path: Path, workspace: Workspace) -> None:
    source = tiff(tmp_path / "a.tif", image())
    workspace.prepare()
    with locked(workspace.root / "volumes" / ".v.ome.zarr.lock"):
        with pytest.raises(WorkspaceError, match="another process is writing here"):
            run(workspace, source)
        assert not run(workspace, source, name="other").skipped
    assert not run(workspace, source).skipped


def test_a_volume_that_is_up_to_date_needs_no_lock(tmp_path: Path, workspace: Workspace) -> None:
    source = tiff(tmp_path / "a.tif", image())
    run(workspace, source)
    with locked(workspace.root / "volumes" / ".v.ome.zarr.lock"):
        assert run(workspace, source).skipped


def test_leftovers_of_a_killed_ingest_are_swept(tmp_path: Path, workspace: Workspace) -> None:
    workspace.prepare()
    folder = workspace.root / "volumes"
    leftover = folder / f".v.ome.zarr.{'0' * 32}.partial"
    other = folder / f".other.ome.zarr.{'0' * 32}.partial"
    for partial in (leftover, other):
        (partial / "0").mkdir(parents=True)
        (partial / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group"}))
    assert workspace.volumes() == []
    run(workspace, tiff(tmp_path / "a.tif", image()))
    assert sorted(path.name for path in folder.iterdir()) == [other.name, "v.ome.zarr"]


def test_a_workspace_that_cannot_be_written(tmp_path: Path) -> None:
    source = tiff(tmp_path / "a.tif", image())
    with pytest.raises(WorkspaceError, match="the disk reported an error"):
        run(Workspace(source), source)


@pytest.mark.parametrize("failing", range(1, 40, 3))
def test_whichever_write_fails_nothing_is_left(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    source, labels = tiff(tmp_path / "a.tif", image()), tiff(tmp_path / "t.tif", truth())
    calls = 0
    fsync = os.fsync

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in refused(workspace, source, labels, kind=WorkspaceError)
    assert calls >= failing
    monkeypatch.undo()
    assert np.array_equal(Volume.open(run(workspace, source, labels).path).label("truth")[...], truth())


def test_another_source_is_refused_under_a_name_in_use(tmp_path: Path, workspace: Workspace) -> None:
    source, other = tiff(tmp_path / "a.tif", image()), tiff(tmp_path / "b.tif", 255 - image())
    run(workspace, source)
    with pytest.raises(ConfigError, match=f"expected source {other}, found source {source}.*--replace"):
        run(workspace, other)
    with pytest.raises(ConfigError):
        ingest(IngestConfig(name="v", source=other, voxel_nm=VOXEL), workspace, again=True)
    assert np.array_equal(Volume.open(workspace.volume("v")).raw[...], image())
    assert not run(workspace, other, replace=True).skipped
    assert np.array_equal(Volume.open(workspace.volume("v")).raw[...], 255 - image())


def test_labels_may_come_to_a_volume_and_a_path_may_be_spelled_otherwise(tmp_path: Path, workspace: Workspace) -> None:
    source, labels = tiff(tmp_path / "a.tif", image()), tiff(tmp_path / "t.tif", truth())
    run(workspace, source)
    (tmp_path / "link").symlink_to(tmp_path)
    assert not run(workspace, tmp_path / "link" / "a.tif", labels).skipped
    assert Volume.open(workspace.volume("v")).labels() == ["truth"]


def test_a_volume_that_cannot_be_read_is_not_replaced_unasked(tmp_path: Path, workspace: Workspace) -> None:
    run(workspace, tiff(tmp_path / "a.tif", image()))
    noted = workspace.volume("v") / "zarr.json"
    noted.write_text("{")
    with pytest.raises(WorkspaceError, match=r"a volume of this name that cannot be read.*--replace"):
        run(workspace, tiff(tmp_path / "b.tif", 255 - image()))
    assert noted.read_text() == "{"
    run(workspace, tmp_path / "b.tif", replace=True)
    assert np.array_equal(Volume.open(workspace.volume("v")).raw[...], 255 - image())


def test_axes_that_seem_swapped_are_asked_about(tmp_path: Path, workspace: Workspace) -> None:
    thick = tissue((40, 64, 64))[0]
    np.save(tmp_path / "a.npy", thick.transpose(2, 1, 0))
    (told,) = (one for one in run(workspace, tmp_path / "a.npy").warnings if "may be swapped" in one)
    assert "give --axes xyz" in told
    result = run(workspace, tmp_path / "a.npy", axes="xyz", replace=True)
    assert np.array_equal(Volume.open(result.path).raw[...], thick)
    assert not any("swapped" in one for one in result.warnings)
    np.save(tmp_path / "b.npy", thick)
    assert not any("swapped" in one for one in run(workspace, tmp_path / "b.npy", name="b").warnings)


def test_what_is_made_with_one_window_is_not_of_another(tmp_path: Path, workspace: Workspace) -> None:
    source = tiff(tmp_path / "a.tif", tissue((2, 64, 64))[0])
    digests = []
    for window in (None, (60, 200), (50, 200)):
        run(workspace, source, replace=True, window=window)
        digests.append(source_digest(workspace, "v"))
        assert Volume.open(workspace.volume("v")).attributes["source_digest"] == digests[0]
        baseline("v", f"r{len(digests)}", BaselineConfig(), workspace)
        assert verify(f"r{len(digests)}", workspace) == []
    assert len(set(digests)) == 3
    assert "the volume has changed since the baseline" in verify("r2", workspace)[0].what
