"""A change recomputes exactly the blocks it concerns, and what changes no voxel recomputes none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile
import torch

from segem.config import ExecutionConfig, IngestConfig, SegmentConfig
from segem.io.ledger import Ledger, PhaseKey
from segem.io.workspace import Workspace
from segem.learn.artefact import save_artefact
from segem.learn.models.registry import build
from segem.records.card import ModelCard
from segem.stages.segmentation.segment import segment
from segem.stages.volumes.ingest import ingest
from tests.integration.conftest import OPTIONS, make_artefact, make_volume
from tests.nets import vouch_for_weights
from tests.processes import ROOT

SHAPE = (18, 64, 64)
"""Three blocks: sections 0 to 7, 8 to 15, 16 and 17."""
QUIET = ExecutionConfig(device="cpu")
TILED = SegmentConfig(model="tiny", tile_px=32)


@pytest.fixture
def segmented(workspace: Workspace, tmp_path: Path) -> Workspace:
    make_artefact(workspace, seed=0)
    make_volume(workspace, tmp_path / "source", SHAPE)
    assert segment("noise", "r", TILED, QUIET, workspace).computed == 3
    return workspace


def digests(workspace: Workspace, run: str = "r") -> dict[int, str]:
    """Return what each block is made of, by its place along z."""
    with Ledger(workspace.ledger(run)) as ledger:
        return {z: row.identity for (z, _, _), row in ledger.rows(PhaseKey("noise", "segment", "blocks")).items()}


def swap_two_voxels(folder: Path, section: int) -> None:
    """Change a section of the source, but no statistics of the volume."""
    image = tifffile.imread(folder / "noise.tif")
    row = image[section, 5]
    a, b = 5, next(x for x in range(6, 64) if row[x] != row[5])
    row[[a, b]] = row[[b, a]]
    tifffile.imwrite(folder / "noise.tif", image, photometric="minisblack")


@pytest.mark.parametrize(
    ("context", "section", "blocks"),
    [
        (1, 3, {0}),
        (1, 8, {1}),
        (3, 3, {0}),
        (3, 7, {0, 1}),
        (3, 8, {0, 1}),
        (3, 9, {1}),
        (3, 17, {2}),
    ],
)
def test_a_changed_section_concerns_the_blocks_that_read_it(
    segmented: Workspace, tmp_path: Path, context: int, section: int, blocks: set[int]
) -> None:
    options = {**OPTIONS, "context_sections": context}
    torch.manual_seed(0)
    card = ModelCard(name="context", architecture="unet", options=options, threshold=0.5)
    save_artefact(segmented.models / "context" / "1", card, build("unet", options))
    config = SegmentConfig(model="context")
    assert segment("noise", "c", config, QUIET, segmented).computed == 3
    before = digests(segmented, "c")
    swap_two_voxels(tmp_path / "source", section)
    source = IngestConfig(name="noise", source=tmp_path / "source" / "noise.tif", voxel_nm=(50, 4, 4))
    assert not ingest(source, segmented, again=True).skipped
    again = segment("noise", "c", config, QUIET, segmented)
    assert (again.computed, again.skipped) == (len(blocks), 3 - len(blocks))
    after = digests(segmented, "c")
    assert {z for z in after if after[z] != before[z]} == blocks


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.4},
        {"halo_px": 32},
        {"tile_px": 48},
        {"stitch": "gaussian"},
        {"stitch": "gaussian", "overlap": 0.25},
    ],
)
def test_a_changed_setting_concerns_every_block(segmented: Workspace, change: dict[str, object]) -> None:
    config = TILED.model_copy(update=change)
    assert segment("noise", "r", config, QUIET, segmented, replace=True).computed == 3
    assert segment("noise", "r", config, QUIET, segmented).computed == 0
    assert segment("noise", "r", TILED, QUIET, segmented, replace=True).computed == 3


def test_one_changed_weight_concerns_every_block(segmented: Workspace) -> None:
    from safetensors.torch import load_file, save_file

    file = segmented.models / "tiny" / "1" / "weights.safetensors"
    state = load_file(file)
    state["head.bias"] = state["head.bias"] + 1e-3
    save_file(state, file)
    vouch_for_weights(file.parent)
    assert segment("noise", "r", TILED, QUIET, segmented, replace=True).computed == 3


SEGMENT = """
import json, sys
from pathlib import Path
from segem.config import ExecutionConfig, SegmentConfig
from segem.io.workspace import Workspace
from segem.stages.segmentation.segment import segment
if __name__ == "__main__":
    execution = ExecutionConfig(**json.loads(sys.argv[2]))
    config = SegmentConfig(model=sys.argv[3], tile_px=32)
    done = segment("noise", sys.argv[4], config, execution, Workspace(Path(sys.argv[1])))
    print(done.computed, done.skipped)
"""


def segmented_by(
    package: Path,
    workspace: Workspace,
    execution: dict[str, object],
    model: str = "tiny",
    run: str = "r",
    **environment: str,
) -> tuple[int, int]:
    """Return how many blocks a process computes with the segem that lies in `package`, and how many it skips."""
    script = workspace.root / "segment.py"
    script.write_text(SEGMENT)
    done = subprocess.run(
        [sys.executable, str(script), str(workspace.root), json.dumps({"device": "cpu", **execution}), model, run],
        env={**os.environ, "PYTHONPATH": str(package), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    computed, skipped = done.stdout.split()
    return int(computed), int(skipped)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a folder with a segem of its own, to be changed."""
    shutil.copytree(ROOT / "segem", tmp_path / "package" / "segem", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "package"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "computed"), [("kernels/blend.py", 3), ("learn/engine.py", 3), ("cli/show.py", 0), ("progress.py", 0)]
)
def test_changed_code_concerns_every_block_if_voxels_pass_through_it(
    segmented: Workspace, package: Path, module: str, computed: int
) -> None:
    with (package / "segem" / module).open("a") as source:
        source.write("# changed\n")
    assert segmented_by(package, segmented, {}) == (computed, 3 - computed)


@pytest.mark.slow
def test_one_changed_coefficient_of_a_convolution_concerns_every_block(segmented: Workspace, package: Path) -> None:
    options = {"features": 64, "depth": 2}
    card = ModelCard(name="wide", architecture="unet", options=options, threshold=0.5)
    save_artefact(segmented.models / "wide" / "1", card, build("unet", options))
    assert segmented_by(package, segmented, {}, "wide", "w") == (3, 0)
    assert segmented_by(package, segmented, {}, "wide", "w") == (0, 3)
    source = package / "segem" / "learn" / "winograd.py"
    before, after = "[[6, 0, 0],", "[[6.0001, 0, 0],"
    assert source.read_text().count(before) == 1
    source.write_text(source.read_text().replace(before, after))
    assert segmented_by(package, segmented, {}, "wide", "w") == (3, 0)
    assert segmented_by(package, segmented, {}, "wide", "w") == (0, 3)


@pytest.mark.slow
def test_how_it_is_run_concerns_no_block(segmented: Workspace) -> None:
    how: list[tuple[dict[str, object], dict[str, str]]] = [
        ({}, {"SEGEM_DEBUG": "1", "PYTHONDEVMODE": "1", "TZ": "Asia/Tokyo"}),
        ({"engine": "dask", "workers": 2}, {"OMP_NUM_THREADS": "2"}),
    ]
    for execution, environment in how:
        assert segmented_by(ROOT, segmented, execution, **environment) == (0, 3)


def test_another_voxel_size_of_the_same_voxels_concerns_no_block_of_them(segmented: Workspace, tmp_path: Path) -> None:
    before = digests(segmented)
    source = IngestConfig(name="noise", source=tmp_path / "source" / "noise.tif", voxel_nm=(40, 4, 4))
    ingest(source, segmented, replace=True)
    # The result is another image, so it is written anew, but of the same making.
    assert segment("noise", "r", TILED, QUIET, segmented).computed == 3
    assert digests(segmented) == before
