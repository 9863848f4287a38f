"""Places of a run are computed anew in one piece: sound ones agree, and those made by faulty tiling do not."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segem.config import ExecutionConfig, IngestConfig, RefineConfig, Resampling, SegmentConfig
from segem.config.accept import parse_rules
from segem.errors import ModelError
from segem.geometry import Halo
from segem.io.files import write_text
from segem.io.run import load_run
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn import engine
from segem.learn.artefact import CARD, Artefact
from segem.plan import Tiling, crop_tiling
from segem.records.card import LearnedAt
from segem.records.run import CrfFacts, SegmentFacts
from segem.records.seams import Recomputed, RecomputedPlace
from segem.stages.reporting.evaluate import evaluate
from segem.stages.segmentation import recompute as anew
from segem.stages.segmentation import segment as stage
from segem.stages.segmentation.crf import refine_volume
from segem.stages.segmentation.recompute import recompute
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import verify
from segem.stages.volumes.ingest import ingest
from tests.integration.conftest import make_artefact, make_volume
from tests.integration.test_cli import Shell

QUIET = ExecutionConfig(device="cpu")
TILED = SegmentConfig(model="tiny", tile_px=64)
SHAPE = (1, 150, 140)


def make_run(space: Workspace, folder: Path, config: SegmentConfig = TILED) -> None:
    make_volume(space, folder / "source", SHAPE)
    segment("noise", "r", config, QUIET, space)
    assert verify("r", space) == []


def check_of(space: Workspace, run: str = "r") -> Recomputed:
    """Return what the segmentation of a run has computed anew at its end."""
    facts = load_run(space, run).volumes["noise"].membrane_facts
    assert facts is not None
    assert facts.recomputed is not None
    return facts.recomputed


def forget_halo(shape: Any, block: Any, halo: Halo, *rest: Any) -> Tiling:
    return crop_tiling(shape, block, Halo(halo.z, halo.y // 4, halo.x // 4), *rest)


def look_at_the_tile_alone(tile: Any, block: Any, voxels: Any, _: Any, context: int) -> Any:
    seen = voxels[:, *tile.read.relative_to(block.read.start).slices[1:]].astype(np.float32)
    assert context == 1
    return (seen[tile.write.start[0] - block.read.start[0]] - seen.mean())[None] / seen.std()


def brighten_every_second_tile(tile: Any, block: Any, *rest: Any, step_px: int = 64) -> Any:
    found = TILE_CHANNELS(tile, block, *rest)
    return found * 1.03 if sum(start // step_px for start in tile.read.start[1:]) % 2 else found


TILE_CHANNELS = engine.tile_channels


def test_what_is_whole_agrees_to_a_rounding(workspace: Workspace, artefact: Artefact, tmp_path: Path) -> None:
    make_run(workspace, tmp_path)
    found = check_of(workspace)
    assert len(found.places) > 3
    assert (found.manner, found.off) == ("in one piece", ())
    assert {one.plane for one in found.places} <= {
        *(f"where tiles meet at row {y} and column {x}" for y in (64, 128) for x in (64, 128)),
        *(f"where tiles meet at {axis} {at}" for axis in ("row", "column") for at in (64, 128)),
    }
    assert recompute("r", workspace, 6, "cpu") == []
    (scores,) = evaluate("r", workspace).volumes
    assert scores.seams is not None
    assert scores.seams.recomputed == found
    assert scores.seams.describe_recomputed().startswith(f"{len(found.places)} places where tiles or blocks meet")


def test_what_was_compared_once_is_not_compared_again(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(workspace, tmp_path)
    found = check_of(workspace)
    with monkeypatch.context() as patch:
        patch.delattr(anew, "compare_places")
        segment("noise", "r", TILED, QUIET, workspace)
        assert check_of(workspace) == found
    other = TILED.model_copy(update={"tile_px": 32})
    segment("noise", "r", other, QUIET, workspace, replace=True)
    assert check_of(workspace) != found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "name", "fault"),
    [
        (stage, "crop_tiling", forget_halo),
        (engine, "tile_channels", look_at_the_tile_alone),
        (engine, "tile_channels", brighten_every_second_tile),
    ],
)
def test_faults_of_the_tiling_are_found(
    workspace: Workspace,
    artefact: Artefact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: Any,
    name: str,
    fault: Any,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(room, name, fault)
        make_run(workspace, tmp_path)
    assert check_of(workspace).off
    found = recompute("r", workspace, 6, "cpu")
    assert found
    assert all(one.volume == "noise" and "not what the model gives in one piece" in one.what for one in found)
    # Whatever the rules say.
    (scores,) = evaluate("r", workspace, parse_rules(["seam_ratio <= 99"])).volumes
    assert scores.verdict is not None
    assert scores.verdict.state == "rejected"
    assert "Seams show: what is stored is not what the model gives in one piece, in" in scores.verdict.sentence


@pytest.mark.slow
@pytest.mark.parametrize("resample", ["auto", "several"])
@pytest.mark.parametrize(("learned_nm", "resampled"), [(3.0, (4, 3)), (7.5, (1, 2))])
def test_a_volume_shown_at_another_pixel_size_agrees_too(
    workspace: Workspace,
    artefact: Artefact,
    tmp_path: Path,
    learned_nm: float,
    resampled: tuple[int, int],
    resample: Resampling,
) -> None:
    learned = LearnedAt(pixel_nm=(learned_nm, learned_nm), section_nm=(50, 50))
    card = artefact.card.model_copy(update={"learned_at": learned})
    write_text(artefact.path / CARD, card.model_dump_json())
    make_run(workspace, tmp_path, TILED.model_copy(update={"resample": resample}))
    facts = load_run(workspace, "r").volumes["noise"].steps["segment"].facts
    assert isinstance(facts, SegmentFacts)
    assert facts.resampled == resampled
    assert len(facts.sizes) == (3 if resample == "several" else 0)
    assert facts.overhead > 1.5, "several tiles with their halos"
    assert recompute("r", workspace, 6, "cpu") == []


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"halo_px": 4}, {"stitch": "gaussian"}, {"stitch": "hann"}])
def test_what_makes_no_whole_is_computed_tile_by_tile(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    config = TILED.model_copy(update=more)
    make_run(workspace, tmp_path, config)
    found = check_of(workspace)
    assert found.places
    assert (found.manner, found.off) == ("tile by tile", ())
    assert recompute("r", workspace, 6, "cpu") == []
    with monkeypatch.context() as patch:
        step_px = 60 if "halo_px" in more else 32
        patch.setattr(engine, "tile_channels", partial(brighten_every_second_tile, step_px=step_px))
        segment("noise", "bright", config, QUIET, workspace)
    assert check_of(workspace, "bright").off


def test_blending_by_weights_that_the_plan_does_not_have_is_found(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weigh_alike(size: int, _: int, windows: Any, form: str) -> list[Any]:
        assert form == "gaussian"
        total = np.zeros(size)
        for start, stop in windows:
            total[start:stop] += 1
        return [(1 / total[start:stop]).astype(np.float32) for start, stop in windows]

    with monkeypatch.context() as patch:
        patch.setattr(engine, "axis_weights", weigh_alike)
        make_run(workspace, tmp_path, TILED.model_copy(update={"stitch": "gaussian"}))
    assert check_of(workspace).off


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"views": 8}, {"runtime": "torch"}, {"runtime": "openvino-int8"}])
def test_views_and_runtimes_are_those_of_the_run(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, more: dict[str, Any]
) -> None:
    make_run(workspace, tmp_path, TILED.model_copy(update=more | {"int8_tolerance": 0.5}))
    found = check_of(workspace)
    assert len(found.places) > 3
    assert not found.off


def test_where_there_is_no_tissue_the_probability_is_0(
    workspace: Workspace, artefact: Artefact, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(60, 200, (2, 150, 140), np.uint8)
    image[:, 70:, 50:] = 0
    tifffile.imwrite(tmp_path / "noise.tif", image, photometric="minisblack")
    ingest(IngestConfig(name="noise", source=tmp_path / "noise.tif", voxel_nm=(50, 4, 4)), workspace)
    assert Volume.open(workspace.volume("noise")).outside is not None
    segment("noise", "r", TILED, QUIET, workspace)
    found = check_of(workspace)
    assert any(one.rows[1] > 80 and one.columns[1] > 60 for one in found.places), "some lie where nothing is"
    assert not found.off


def test_a_refined_probability_is_judged_by_the_one_it_was_made_from(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(engine, "tile_channels", brighten_every_second_tile)
        make_run(workspace, tmp_path)
    refine_volume("noise", "refined", RefineConfig(of="r"), QUIET, workspace)
    facts = load_run(workspace, "refined").volumes["noise"].membrane_facts
    assert isinstance(facts, CrfFacts)
    assert facts.recomputed == check_of(workspace).model_copy(update={"of": "r"})
    (scores,) = evaluate("refined", workspace).volumes
    assert scores.seams is not None
    assert scores.seams.shows
    assert scores.seams.describe().startswith("seams show: what run r holds, from which this was refined, is not what")


def test_another_model_of_that_name_is_refused(workspace: Workspace, artefact: Artefact, tmp_path: Path) -> None:
    make_run(workspace, tmp_path)
    (workspace.models / "tiny" / "1").rename(tmp_path / "away")
    make_artefact(workspace, seed=1)
    with pytest.raises(ModelError, match="the model is not the one that the run was made by"):
        recompute("r", workspace, 1, "cpu")


@pytest.mark.slow
def test_verify_computes_anew_where_it_is_asked_to(
    workspace: Workspace,
    artefact: Artefact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(engine, "tile_channels", brighten_every_second_tile)
        make_run(workspace, tmp_path)
    shell = Shell(monkeypatch, capsys, workspace.root)
    assert shell("verify", "r")[:2] == (0, "r: whole\n")
    code, out, err = shell("verify", "r", "--recompute", "2", "--device", "cpu", "--json")
    assert code == 1
    assert {one["volume"] for one in json.loads(out)} == {"noise"}
    assert "not what the model gives in one piece" in err


@pytest.mark.parametrize(
    ("share", "levels", "sound"), [(0.0, 0, True), (0.001, 1, True), (0.01, 1, False), (1e-5, 2, False)]
)
def test_no_more_than_rounding_is_sound(share: float, levels: int, sound: bool) -> None:
    place = RecomputedPlace(section=0, rows=(0, 2), columns=(0, 2), plane="inside", share=share, levels=levels)
    allowed = dict(zip(("most_levels", "most_share"), anew.ROUNDING, strict=True))
    assert (Recomputed.model_validate({"places": (place,), **allowed}).off == ()) is sound
