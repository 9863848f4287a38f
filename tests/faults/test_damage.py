"""Whatever happens to a file of a finished run is found, named, and mended by computing that and nothing else."""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from segem.config import BaselineConfig, ExecutionConfig, SegmentConfig
from segem.errors import WorkspaceError
from segem.geometry import Box, grid
from segem.io.blocks import shard_path
from segem.io.run import load_run
from segem.io.shards import Array, path_of, shape_of, shard_of
from segem.io.volume import Volume, write_block
from segem.io.workspace import Workspace
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.identity import code_digest
from segem.stages.segmentation.repair import Repair, repair
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import verify
from tests.faults import harness
from tests.integration.conftest import make_artefact, make_volume

QUIET = ExecutionConfig(device="cpu")
TINY = SegmentConfig(model="tiny")
SHAPE = (10, 300, 40)
"""Two blocks of 8 and 2 sections, and one coarser level."""
TURN = 20
"""Files that are damaged in one test: each of the twelve once, the others at random."""
TURNS = max(1, 4 * harness.TIMES // TURN)


class Whole:
    """A finished run, and every file its voxels lie in."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.result = Volume.open(workspace.result("r", "noise"))
        self.source = Volume.open(workspace.volume("noise"))
        layers = (("", self.result.levels()), *((name, self.result.levels(name)) for name in self.result.labels()))
        self.shards = [
            (name, level, array, box)
            for name, levels in layers
            for level, array in enumerate(levels)
            for _, box in grid(shape_of(array), shard_of(array))
        ]
        self.kept = {file: file.read_bytes() for file in self.files()}

    def files(self) -> list[Path]:
        return [shard_path(array, box) for _, _, array, box in self.shards]

    def versions(self) -> dict[Path, tuple[int, int] | None]:
        """Return what changes when a file is written."""
        return {f: (s.st_ino, s.st_mtime_ns) if (s := f.stat() if f.exists() else None) else None for f in self.files()}

    def faults(self) -> list[str]:
        return [fault.what for fault in verify("r", self.workspace)]

    def repair(self) -> Repair:
        return repair("r", self.workspace, QUIET)

    def counts(self) -> tuple[int, int]:
        stage = load_run(self.workspace, "r").volumes["noise"].membrane
        assert stage is not None
        return stage.facts.computed, stage.facts.skipped


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("finished")
    workspace = Workspace(folder / "workspace")
    workspace.prepare()
    make_artefact(workspace, seed=0)
    make_volume(workspace, folder / "source", SHAPE)
    baseline("noise", "r", BaselineConfig(), workspace)
    segment("noise", "r", TINY, QUIET, workspace)
    return workspace


@pytest.fixture
def whole(finished: Workspace, tmp_path: Path) -> Whole:
    shutil.copytree(finished.root, tmp_path / "workspace")
    return Whole(Workspace(tmp_path / "workspace"))


def flip(file: Path, rng: random.Random) -> None:
    """Flip one bit of a file."""
    data = bytearray(file.read_bytes())
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def delete(file: Path, rng: random.Random) -> None:
    """Remove a file."""
    file.unlink()


def cut(file: Path, rng: random.Random) -> None:
    """Cut a file off somewhere."""
    data = file.read_bytes()
    file.write_bytes(data[: rng.randrange(len(data))])


Damage = Callable[[Path, random.Random], None]


def expected_name(name: str, level: int, box: Box) -> str:
    """Return what a fault must say for one to know where it is."""
    if level > 0:
        return f"block {box} of level {'labels/' if name else ''}{name}{'/' if name else ''}{level} "
    return f"{'baseline' if name == 'baseline' else 'segment'} block {box.start[0] // 8, 0, 0}: "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "seed"), [*((flip, seed) for seed in range(TURNS)), *((how, 0) for how in (delete, cut))]
)
def test_a_damaged_file_is_found_named_and_mended_alone(whole: Whole, damage: Damage, seed: int) -> None:
    rng = random.Random(seed)
    assert len(whole.shards) == 12
    for name, level, array, box in [*whole.shards, *rng.choices(whole.shards, k=TURN - 12)]:
        file = shard_path(array, box)
        damage(file, rng)
        before = whole.versions()
        found = whole.faults()
        assert len(found) == 1, (file, found)
        named = expected_name(name, level, box) in found[0]
        assert named or str(file) in found[0], (file, found)

        done = whole.repair()
        assert [fault.what for fault in done.repaired] == found
        assert done.left == ()
        assert {f: f.read_bytes() for f in whole.files()} == whole.kept
        after = whole.versions()
        by_model = level == 0 and name != "baseline"
        # A block holds a probability and its mask, and both are written; nothing else is.
        of_block = {shard_path(layer, box) for layer in (whole.result.raw, whole.result.label("membrane"))}
        assert {f for f in after if after[f] != before[f]} == (of_block if by_model else {file})
        if by_model:
            assert whole.counts() == (1, 1)


def test_damage_everywhere_at_once_is_named_and_mended(whole: Whole) -> None:
    rng = random.Random(1)
    for file in whole.files():
        flip(file, rng)
    found = whole.faults()
    # Two blocks of probability and mask, two coarse blocks of each of three layers, two blocks of the baseline.
    assert len([what for what in found if "of level" in what]) == 6
    assert len([what for what in found if what.startswith("segment block (")]) == 2
    assert len([what for what in found if what.startswith("baseline block (")]) == 2
    assert len(found) == 10
    done = whole.repair()
    assert done.left == ()
    assert len(done.repaired) == 10
    assert {f: f.read_bytes() for f in whole.files()} == whole.kept


def layers_of(volume: Volume) -> list[Array]:
    return [*volume.levels(), *(level for name in volume.labels() for level in volume.levels(name))]


def test_a_block_that_another_writer_replaced_is_noticed(whole: Whole) -> None:
    for array in layers_of(whole.result):
        box = next(iter(grid(shape_of(array), shard_of(array))))[1]
        other = np.asarray(array[box.slices])
        other[0, 0, 0] ^= 1
        write_block(array, box, other)
        assert len(whole.faults()) == 1, path_of(array)
        assert whole.repair().left == ()
        assert {f: f.read_bytes() for f in whole.files()} == whole.kept
    # A resumed run notices too, without being told.
    box = Box((0, 0, 0), (8, *SHAPE[1:]))
    write_block(whole.result.raw, box, np.zeros(box.shape, np.uint8))
    assert segment("noise", "r", TINY, QUIET, whole.workspace).computed == 1
    assert {f: f.read_bytes() for f in whole.files()} == whole.kept


def test_a_file_without_a_row_and_a_row_without_a_file_are_lost_blocks(whole: Whole) -> None:
    with sqlite3.connect(whole.workspace.ledger("r")) as ledger:
        ledger.execute("DELETE FROM blocks WHERE z = 0 AND step = 'segment'")
    shard_path(whole.result.raw, Box((8, 0, 0), (10, *SHAPE[1:]))).unlink()
    assert whole.faults() == [
        "segment block (0, 0, 0): the ledger has no record of it",
        "segment block (1, 0, 0): its file is missing",
    ]
    assert whole.repair().left == ()
    assert whole.counts() == (2, 0)
    assert {f: f.read_bytes() for f in whole.files()} == whole.kept


def test_a_result_that_cannot_be_opened_is_made_anew(whole: Whole) -> None:
    (whole.result.path / "zarr.json").write_text("{")
    assert len(whole.faults()) == 1
    assert whole.repair().left == ()
    assert {f: f.read_bytes() for f in whole.files()} == whole.kept


def test_every_damage_of_the_ingested_volume_is_found(whole: Whole) -> None:
    rng = random.Random(2)
    before = whole.versions()
    for level, array in enumerate(whole.source.levels()):
        for _, box in grid(shape_of(array), shard_of(array)):
            file = shard_path(array, box)
            kept = file.read_bytes()
            flip(file, rng)
            found = whole.faults()
            assert len(found) == 1, found
            done = whole.repair()
            if level:
                assert [fault.what for fault in done.repaired] == found
                assert file.read_bytes() == kept
            else:
                # The source may be gone, and a mask made of damaged voxels would be worth nothing.
                assert done.repaired == ()
                assert "ingested voxels are damaged" in done.left[-1].what
                assert "--again" in done.left[-1].what
                file.write_bytes(kept)
    assert whole.versions() == before


def test_a_repair_never_mixes_blocks_of_two_models(whole: Whole) -> None:
    for file in whole.files()[:1]:
        file.unlink()
    before = whole.versions()
    make_artefact(whole.workspace, seed=1)
    done = whole.repair()
    assert done.repaired == ()
    assert done.left[0].what == "segment block (0, 0, 0): its file is missing"
    assert "the model of the run is no longer available" in done.left[1].what
    assert whole.versions() == before
    make_artefact(whole.workspace, seed=0)
    assert whole.repair().left == ()


def test_a_repair_never_mixes_blocks_of_two_versions_of_a_package(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole.files()[0].unlink()
    before = whole.versions()
    with monkeypatch.context() as patched:
        # What is found first on the path is what is installed.
        (tmp_path / "numpy-99.0.dist-info").mkdir()
        (tmp_path / "numpy-99.0.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 99.0\n")
        patched.syspath_prepend(tmp_path)
        code_digest.cache_clear()
        done = whole.repair()
    code_digest.cache_clear()
    assert done.repaired == ()
    said = f"the software of the run is no longer available.* expected numpy {np.__version__}, found numpy 99.0. Fix"
    assert re.search(said, done.left[1].what), done.left[1].what
    assert whole.versions() == before
    assert whole.repair().left == ()


def test_a_stopped_run_is_taken_up_again_by_its_own_settings(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise WorkspaceError("no space left")

    config = SegmentConfig(model="tiny", threshold=0.3)
    with monkeypatch.context() as patched:
        patched.setattr(Volume, "build_pyramid", refuse)
        with pytest.raises(WorkspaceError, match="no space left"):
            segment("noise", "stopped", config, QUIET, finished)
    assert [fault.what for fault in verify("stopped", finished)] == ["no space left"]
    assert repair("stopped", finished, QUIET).left == ()
    stage = load_run(finished, "stopped").volumes["noise"].membrane
    assert stage is not None
    assert stage.facts.threshold == 0.3
    assert (stage.facts.computed, stage.facts.skipped) == (0, 2)


@pytest.mark.parametrize("change", ["scale", "shape"])
def test_labels_on_other_voxels_than_the_image_are_refused(whole: Whole, change: str) -> None:
    label = whole.result.path / "labels" / "membrane"
    if change == "scale":
        group = zarr.open_group(str(label), mode="r+")
        ome: dict[str, Any] = dict(group.attrs["ome"])  # type: ignore[arg-type]
        ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] = [50, 8, 8]
        group.attrs["ome"] = ome
    else:
        zarr.create_array(str(label / "0"), shape=(10, 300, 41), dtype="u1", overwrite=True, zarr_format=3)
    with pytest.raises(WorkspaceError, match="the label membrane does not match the voxels of the image"):
        Volume.open(whole.result.path)
    assert "label membrane" in whole.faults()[0]
    assert whole.repair().left == ()
    assert {f: f.read_bytes() for f in whole.files()} == whole.kept
