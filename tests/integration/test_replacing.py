"""A command under a name in use never loses what another one has made, unless it is told to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segem.config import BUNDLED_MODEL, BaselineConfig, ExecutionConfig, IngestConfig, RefineConfig, SegmentConfig
from segem.errors import ConfigError
from segem.io.run import enter_volumes
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.models.registry import ZOO
from segem.stages.campaign import open_campaign, record_volumes
from segem.stages.models.zoo import check_new_name
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.crf import refine_volume
from segem.stages.segmentation.export import export
from segem.stages.segmentation.repair import repair
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import verify
from segem.stages.volumes.ingest import ingest
from tests.integration.conftest import make_artefact, make_volume

SHAPE = (2, 64, 64)
QUIET = ExecutionConfig(device="cpu")
TINY = SegmentConfig(model="tiny", runtime="torch")
CRF = RefineConfig(of="r")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run of every stage and one refined from it."""
    folder = tmp_path_factory.mktemp("finished")
    workspace = Workspace(folder / "workspace")
    workspace.prepare()
    make_artefact(workspace, seed=0)
    make_artefact(workspace, seed=1, name="other")
    make_volume(workspace, folder / "source", SHAPE)
    baseline("noise", "r", BaselineConfig(), workspace)
    segment("noise", "r", TINY, QUIET, workspace)
    refine_volume("noise", "r-crf", CRF, QUIET, workspace)
    return workspace


@pytest.fixture
def copy(finished: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(finished.root, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


def files(workspace: Workspace) -> dict[Path, bytes]:
    """Return every file of voxels and every record."""
    found = (path for path in workspace.root.rglob("*") if path.is_file() and "sqlite" not in path.name)
    return {path: path.read_bytes() for path in found}


def refused(call: Any, workspace: Workspace) -> str:
    before = files(workspace)
    with pytest.raises(ConfigError) as caught:
        call()
    assert files(workspace) == before, "a refused command changes nothing"
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "other"}, "model other ("),
        ({"stitch": "hann"}, "expected stitch hann, found stitch auto"),
        ({"tile_px": 48}, "expected tile-px 48, found no tile-px given"),
        ({"halo_px": 32}, "expected halo-px 32, found no halo-px given"),
        ({"threshold": 0.4}, "expected threshold 0.4, found no threshold given"),
        ({"views": 4}, "expected views 4, found views 1"),
    ],
)
def test_another_segmentation_is_refused(finished: Workspace, change: dict[str, Any], named: str) -> None:
    line = refused(lambda: segment("noise", "r", TINY.model_copy(update=change), QUIET, finished), finished)
    assert named in line
    assert "--run" in line
    assert "--replace" in line
    assert verify("r", finished) == []


def test_the_same_command_resumes_and_replace_makes_anew(copy: Workspace) -> None:
    assert segment("noise", "r", TINY, QUIET, copy).computed == 0
    by_path = TINY.model_copy(update={"model": str(copy.models / "tiny" / "1")})
    assert segment("noise", "r", by_path, QUIET, copy).computed == 0, "a path to the same weights is the same model"
    other = TINY.model_copy(update={"model": "other"})
    assert segment("noise", "r", other, QUIET, copy, replace=True).computed == 1
    assert segment("noise", "r", other, QUIET, copy).computed == 0
    assert "model tiny (" in refused(lambda: segment("noise", "r", TINY, QUIET, copy), copy)


def test_other_weights_under_the_same_name_are_another_model(copy: Workspace) -> None:
    make_artefact(copy, seed=2)
    line = refused(lambda: segment("noise", "r", TINY, QUIET, copy), copy)
    assert line.count("model tiny (") == 2
    left = repair("r", copy, QUIET).left
    assert left == (), "what is whole needs no model"


def test_another_baseline_is_refused(copy: Workspace) -> None:
    watershed = BaselineConfig(method="watershed")
    line = refused(lambda: baseline("noise", "r", watershed, copy), copy)
    assert "a baseline made in another way; expected method watershed, found method kmeans" in line
    baseline("noise", "r", BaselineConfig(), copy)
    baseline("noise", "r", watershed, copy, replace=True)
    assert verify("r", copy) == []


def test_a_crf_and_a_model_do_not_replace_each_other(finished: Workspace) -> None:
    line = refused(lambda: segment("noise", "r-crf", TINY, QUIET, finished), finished)
    assert "found step crf, of r" in line
    onto = RefineConfig(of="r-crf")
    assert "found step segment, model tiny" in refused(
        lambda: refine_volume("noise", "r", onto, QUIET, finished), finished
    )


def test_what_is_not_there_is_not_protected(copy: Workspace) -> None:
    shutil.rmtree(copy.result("r", "noise"))
    assert segment("noise", "r", TINY.model_copy(update={"threshold": 0.4}), QUIET, copy).computed == 1


def test_a_campaign_that_was_stopped_after_its_baselines_is_not_whole(finished: Workspace, tmp_path: Path) -> None:
    source = finished.root.parent / "source" / "noise.tif"
    job = open_campaign(manifest(tmp_path, source), "stopped", finished.root)
    record_volumes(job)
    baseline("noise", "stopped", BaselineConfig(), finished)
    assert [fault.what for fault in verify("stopped", finished)] == ["the segmentation was never started"]
    shutil.rmtree(finished.run("stopped"))


def manifest(folder: Path, source: Path, more: str = "") -> Path:
    path = folder / "m.yaml"
    volume = f"{{name: noise, source: {source}, voxel_nm: [50, 4, 4]}}"
    path.write_text(f"name: m\nmodel: tiny\nvolumes:\n  - {volume}\nsegment: {{runtime: torch}}\n{more}")
    return path


def test_a_campaign_is_refused_before_it_starts(finished: Workspace, tmp_path: Path) -> None:
    source = finished.root.parent / "source" / "noise.tif"
    same = manifest(tmp_path, source)
    assert open_campaign(same, "r", finished.root).run == "r"
    other = manifest(tmp_path, source, "baseline: {method: watershed}\n")
    line = refused(lambda: open_campaign(other, "r", finished.root), finished)
    assert "r/noise" in line
    assert "--replace" in line
    assert open_campaign(other, "r", finished.root, replace=True).replace
    assert open_campaign(other, "another", finished.root).run == "another"


def test_a_campaign_that_was_killed_leaves_no_result_unprotected(copy: Workspace) -> None:
    enter_volumes(copy, "r", ["noise"])
    (fault,) = verify("r", copy)
    assert fault.what.startswith("the segmentation is still to come in a run that is under way or was stopped")
    refused(lambda: segment("noise", "r", TINY.model_copy(update={"views": 2}), QUIET, copy), copy)
    assert repair("r", copy, QUIET).left == ()


def test_verify_names_a_refined_run_whose_origin_was_replaced(copy: Workspace) -> None:
    assert verify("r-crf", copy) == []
    other = TINY.model_copy(update={"model": "other"})
    segment("noise", "r", other, QUIET, copy, replace=True)
    (fault,) = verify("r-crf", copy)
    assert "the probability of run r has changed since it was refined" in fault.what
    assert "segem crf noise --of r --run r-crf" in fault.what
    assert repair("r-crf", copy, QUIET).left == (fault,)
    assert refine_volume("noise", "r-crf", CRF, QUIET, copy).computed == 1, "the same command follows its origin"
    assert verify("r-crf", copy) == []
    shutil.rmtree(copy.run("r"))
    assert "the probability of run r is gone" in verify("r-crf", copy)[0].what
    assert not copy.run("r").exists(), "looking makes nothing"


def test_an_export_replaces_a_file_only_when_told_to(finished: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    out.write_bytes(b"precious")
    with pytest.raises(ConfigError, match=r"the file exists already.*--force"):
        export("r", "noise", "membrane", out, finished)
    assert out.read_bytes() == b"precious"
    export("r", "noise", "membrane", out, finished, force=True)
    mask = np.asarray(Volume.open(finished.result("r", "noise")).label("membrane")[:])
    assert np.array_equal(tifffile.imread(out), mask * 255)
    with pytest.raises(ConfigError, match="this is a folder"):
        export("r", "noise", "membrane", tmp_path, finished, force=True)


def test_an_export_never_touches_sources_or_the_workspace(
    finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = finished.root.parent / "source" / "noise.tif"
    link, folder = tmp_path / "link.tif", tmp_path / "folder"
    link.symlink_to(source)
    folder.symlink_to(source.parent)
    monkeypatch.chdir(source.parent)
    ingest(IngestConfig(name="relative", source=Path("noise.tif"), voxel_nm=(50, 4, 4)), finished)
    monkeypatch.chdir(tmp_path)
    # The source is known from another folder too, and from the volume that was ingested by a relative path.
    noted = Volume.open(finished.volume("relative")).attributes["source"]
    assert noted == str(source)
    shutil.rmtree(finished.volume("relative"))
    inside = [finished.run("r") / "a.tif", finished.volume("noise") / "a.tif", finished.models / "a.tif"]
    for out in (source, link, folder / "noise.tif", *inside):
        line = refused(lambda: export("r", "noise", "raw", out, finished, force=True), finished)  # noqa: B023
        assert "must not write here" in line
    export("r", "noise", "raw", finished.root / "a.tif", finished)


@pytest.mark.parametrize("name", [BUNDLED_MODEL, *ZOO])
def test_a_new_model_hides_nothing_that_came_with_segem(name: str) -> None:
    with pytest.raises(ConfigError, match=r"this name is taken.*--out"):
        check_new_name(name)


def test_a_run_for_another_voxel_size_is_not_whole(finished: Workspace, copy: Workspace) -> None:
    source = finished.root.parent / "source" / "noise.tif"
    ingest(IngestConfig(name="noise", source=source, voxel_nm=(40, 5, 5)), copy, replace=True)
    assert any("the volume now has" in fault.what for fault in verify("r", copy))
