"""Ingest of real stacks, on disks that fill up, and in processes that are killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import ome_zarr_models
import pytest
import tifffile
import yaozarrs
import zarr
from PIL import Image
from scipy import ndimage

from segem.config import IngestConfig, LabelSource
from segem.errors import WorkspaceError
from segem.io.files import PARTIAL
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.volumes.ingest import ingest

ISBI = (50.0, 4.0, 4.0)
VNC = (50.0, 4.6, 4.6)


def check_valid(path: Path) -> None:
    yaozarrs.validate_zarr_store(str(path))
    kind = ome_zarr_models.v05.ImageLabel if path.parent.name == "labels" else ome_zarr_models.v05.Image
    assert isinstance(ome_zarr_models.open_ome_zarr(zarr.open_group(str(path), mode="r")), kind)


def test_isbi_train(em_data: Path, tmp_path: Path) -> None:
    folder = em_data / "isbi2012"
    labels = LabelSource(source=folder / "train-labels.tif", membrane="zero")
    config = IngestConfig(name="isbi", source=folder / "train-volume.tif", voxel_nm=ISBI, labels=labels)
    result = ingest(config, Workspace(tmp_path))
    volume = Volume.open(result.path)
    data = tifffile.imread(folder / "train-volume.tif")
    assert result.shape == (24, 512, 512)
    # Its sections were never aligned well; nothing else is doubtful.
    assert [warning.split(", the first one: ")[0] for warning in result.warnings] == ["sections 10, 11 stand out"]
    assert np.array_equal(volume.raw[...], data)
    assert volume.attributes["source_digest"] == hashlib.sha256(data.tobytes()).hexdigest()
    assert volume.attributes["labels"]["membrane_fraction"] == pytest.approx(0.2254, abs=5e-5)
    assert np.array_equal(volume.label("truth")[...], tifffile.imread(folder / "train-labels.tif") == 0)
    assert volume.statistics.mean == pytest.approx(data.mean())
    check_valid(result.path)
    check_valid(result.path / "labels" / "truth")
    assert ingest(config, Workspace(tmp_path)).skipped


def test_vnc_stack1(em_data: Path, tmp_path: Path) -> None:
    folder = em_data / "vnc" / "stack1"
    labels = LabelSource(source=folder / "membranes", membrane="nonzero")
    config = IngestConfig(name="stack1", source=folder / "raw", voxel_nm=VNC, labels=labels)
    result = ingest(config, Workspace(tmp_path))
    volume = Volume.open(result.path)
    assert (result.shape, result.warnings) == ((10, 1024, 1024), ())
    assert volume.attributes["labels"]["membrane_fraction"] == pytest.approx(0.2074, abs=5e-5)
    for z in (0, 9):
        assert np.array_equal(volume.raw[z], tifffile.imread(folder / "raw" / f"{z:02}.tif"))
        assert np.array_equal(volume.label("truth")[z], np.asarray(Image.open(folder / "membranes" / f"{z:02}.png")))
    check_valid(result.path)


def test_codes_of_the_vnc_labels_are_kept(em_data: Path, tmp_path: Path) -> None:
    folder = em_data / "vnc" / "stack1"
    labels = LabelSource(source=folder / "labels", membrane=191)
    config = IngestConfig(name="mitochondria", source=folder / "raw", voxel_nm=VNC, labels=labels)
    volume = Volume.open(ingest(config, Workspace(tmp_path)).path)
    codes = np.asarray(Image.open(folder / "labels" / "labels00000009.png"))
    assert set(np.unique(codes)) <= {0, 32, 64, 96, 128, 159, 191, 223, 255}
    assert np.array_equal(volume.label("truth")[9], codes == 191)


def test_membrane_of_the_vnc_codes_is_their_first_four(em_data: Path, tmp_path: Path) -> None:
    folder = em_data / "vnc" / "stack1"
    labels = LabelSource(source=folder / "labels", membrane=(0, 32, 64, 96))
    config = IngestConfig(name="codes", source=folder / "raw", voxel_nm=VNC, labels=labels)
    result = ingest(config, Workspace(tmp_path))
    assert result.warnings == ()
    codes = np.asarray(Image.open(folder / "labels" / "labels00000003.png"))
    assert np.array_equal(Volume.open(result.path).label("truth")[3], np.isin(codes, (0, 32, 64, 96)))


def test_snemi(em_data: Path, tmp_path: Path) -> None:
    folder = em_data / "snemi" / "ac3"
    if not folder.is_dir():
        pytest.skip(f"no SNEMI3D at {folder}")
    labels = LabelSource(source=folder / "ids", membrane="borders", border_nm=36, zero_means="membrane")
    config = IngestConfig(name="ac3", source=folder / "raw", voxel_nm=(30, 6, 6), labels=labels)
    result = ingest(config, Workspace(tmp_path))
    truth = np.asarray(Volume.open(result.path).label("truth")[3])
    ids = tifffile.imread(sorted((folder / "ids").glob("*.tif"))[3])
    assert result.warnings == ()
    assert truth[ids == 0].all()
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        touch = (ids[one] != ids[other]) & (ids[one] != 0) & (ids[other] != 0)
        assert touch.any()
        assert truth[one][touch].all()
        assert truth[other][touch].all()
    parts, _ = ndimage.label(truth == 0)
    for part in np.unique(parts[parts != 0])[:50]:
        assert len(np.unique(ids[parts == part])) == 1
    assert 0.1 < truth.mean() < 0.3


@pytest.mark.parametrize(
    ("source", "voxel_nm", "shape"),
    [("isbi2012/test-volume.tif", ISBI, (30, 512, 512)), ("vnc/stack2/raw", VNC, (20, 1024, 1024))],
)
def test_unlabelled_stacks(em_data: Path, tmp_path: Path, source: str, voxel_nm, shape) -> None:
    config = IngestConfig(name="v", source=em_data / source, voxel_nm=voxel_nm)
    result = ingest(config, Workspace(tmp_path))
    assert result.shape == shape
    assert Volume.open(result.path).labels() == []
    check_valid(result.path)


# The same, where the disk or the process gives up.


def noise(path: Path, sections: int = 24, side: int = 512) -> Path:
    rng = np.random.default_rng(0)
    with tifffile.TiffWriter(path) as writer:
        for _ in range(sections):
            writer.write(rng.integers(0, 256, (side, side), np.uint8), photometric="minisblack", metadata=None)
    return path


def command(source: Path, workspace: Path, before: str = "") -> list[str]:
    code = f"""
import resource, json
from pathlib import Path
from segem.config import IngestConfig
from segem.errors import SegemError
from segem.io.workspace import Workspace
from segem.stages.volumes.ingest import ingest
{before}
config = IngestConfig(name="v", source=Path({str(source)!r}), voxel_nm=(50, 4, 4))
print("started", flush=True)
try:
    result = ingest(config, Workspace(Path({str(workspace)!r})))
    error = ""
except SegemError as caught:
    error = f"{{type(caught).__name__}} {{caught}}"
print(json.dumps({{"error": error, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}}))
"""
    return [sys.executable, "-c", code]


def outcome(process: subprocess.CompletedProcess[str]) -> dict:
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def run(source: Path, workspace: Path, before: str = "") -> dict:
    return outcome(subprocess.run(command(source, workspace, before), capture_output=True, text=True, timeout=300))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up(tmp_path: Path, small_disk: Path) -> None:
    source = noise(tmp_path / "a.tif")
    workspace = Workspace(small_disk / "w")
    config = IngestConfig(name="v", source=source, voxel_nm=ISBI)
    with pytest.raises(WorkspaceError, match=r"No space left on device \(\d+ MB free\)\. Fix: free some space"):
        ingest(config, workspace)
    assert workspace.volumes() == []
    assert list((small_disk / "w" / "volumes").iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
    assert np.array_equal(Volume.open(ingest(config, workspace).path).raw[...], tifffile.imread(source))


def test_a_disk_that_is_read_only(tmp_path: Path, small_disk: Path) -> None:
    source = noise(tmp_path / "a.tif", 1, 64)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(WorkspaceError, match=r"Read-only file system .* choose a --workspace on a writable disk"):
        ingest(IngestConfig(name="v", source=source, voxel_nm=ISBI), Workspace(small_disk))


def test_a_volume_on_a_read_only_disk_can_be_read(tmp_path: Path, small_disk: Path) -> None:
    source = noise(tmp_path / "a.tif", 2, 64)
    ingest(IngestConfig(name="v", source=source, voxel_nm=ISBI), Workspace(small_disk))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert Volume.open(Workspace(small_disk).volume("v")).raw[...].any()


def test_a_limit_on_file_size(tmp_path: Path) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))"
    error = run(noise(tmp_path / "a.tif"), tmp_path / "w", limit)["error"]
    assert error.startswith("WorkspaceError")
    assert "File too large" in error
    assert "ulimit -f" in error
    assert list((tmp_path / "w" / "volumes").iterdir()) == []


def unfinished(folder: Path) -> bool:
    return any(PARTIAL.search(path.name) for path in folder.glob(".*"))


def test_killed_ingests_leave_nothing_that_counts(tmp_path: Path) -> None:
    source = noise(tmp_path / "a.tif", 60)
    folder = tmp_path / "w" / "volumes"
    workspace = Workspace(tmp_path / "w")
    rng = random.Random(0)
    partials = 0
    for _ in range(6):
        with subprocess.Popen(command(source, workspace.root), stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "started\n"
            while child.poll() is None and not unfinished(folder):
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.1))
            child.kill()
        partials += unfinished(folder)
        if workspace.volumes():
            assert np.array_equal(Volume.open(workspace.volume("v")).raw[...], tifffile.imread(source))
            # What is there already would not be ingested again.
            shutil.rmtree(workspace.volume("v"))
    assert partials, "no kill hit an ingest at work, so nothing was tested"
    assert run(source, workspace.root)["error"] == ""
    assert [path.name for path in folder.iterdir()] == ["v.ome.zarr"]
    assert np.array_equal(Volume.open(workspace.volume("v")).raw[...], tifffile.imread(source))


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    sources = [noise(tmp_path / "a.tif", 24), noise(tmp_path / "b.tif", 30)]
    children = [
        subprocess.Popen(command(source, tmp_path / "w"), stdout=subprocess.PIPE, text=True) for source in sources * 2
    ]
    errors = []
    for child in children:
        text, _ = child.communicate(timeout=300)
        errors.append(json.loads(text.splitlines()[-1])["error"])
    assert "" in errors
    # On a busy machine one may begin when another has ended.
    refusals = ("another process is writing here", "there is another volume of this name")
    assert [error for error in errors if error and not any(words in error for words in refusals)] == []
    volume = Volume.open(Workspace(tmp_path / "w").volume("v"))
    assert np.array_equal(volume.raw[...], tifffile.imread(volume.attributes["source"]))
    assert [path.name for path in (tmp_path / "w" / "volumes").iterdir()] == ["v.ome.zarr"]


def test_memory_does_not_grow_with_the_sections(tmp_path: Path) -> None:
    peaks = []
    for sections in (16, 320):
        source = noise(tmp_path / f"{sections}.tif", sections)
        found = run(source, tmp_path / f"w{sections}")
        assert found["error"] == ""
        peaks.append(found["peak"])
    # 304 more sections are 80 MB of voxels.
    assert peaks[1] - peaks[0] < 20_000, f"peaks in KiB: {peaks}"
