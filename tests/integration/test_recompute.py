"""Places of a run are computed anew in one piece: sound ones agree, and those made by faulty tiling do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segem.config import ExecutionConfig, SegmentConfig
from segem.errors import ModelError
from segem.geometry import Box, Halo
from segem.io.files import write_text
from segem.io.run import load_run
from segem.io.workspace import Workspace
from segem.learn import engine
from segem.learn.artefact import CARD, Artefact
from segem.plan import Tiling, crop_tiling
from segem.records.card import LearnedAt
from segem.records.run import SegmentFacts
from segem.stages.segmentation import segment as stage
from segem.stages.segmentation.recompute import Difference, recompute
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import verify
from tests.integration.conftest import make_artefact, make_volume
from tests.integration.test_cli import Shell

QUIET = ExecutionConfig(device="cpu")
TILED = SegmentConfig(model="tiny", tile_px=64)
SHAPE = (1, 150, 140)


def make_run(space: Workspace, folder: Path, config: SegmentConfig = TILED) -> None:
    make_volume(space, folder / "source", SHAPE)
    segment("noise", "r", config, QUIET, space)
    assert verify("r", space) == []


def forget_halo(shape: Any, block: Any, halo: Halo, *rest: Any) -> Tiling:
    return crop_tiling(shape, block, Halo(halo.z, halo.y // 4, halo.x // 4), *rest)


def look_at_the_tile_alone(tile: Any, block: Any, voxels: Any, _: Any, context: int) -> Any:
    seen = voxels[:, *tile.read.relative_to(block.read.start).slices[1:]].astype(np.float32)
    assert context == 1
    return (seen[tile.write.start[0] - block.read.start[0]] - seen.mean())[None] / seen.std()


def brighten_every_second_tile(tile: Any, block: Any, *rest: Any) -> Any:
    found = TILE_CHANNELS(tile, block, *rest)
    return found * 1.03 if sum(start // 64 for start in tile.write.start[1:]) % 2 else found


TILE_CHANNELS = engine.tile_channels


def test_what_is_whole_agrees_to_a_rounding(workspace: Workspace, artefact: Artefact, tmp_path: Path) -> None:
    make_run(workspace, tmp_path)
    assert recompute("r", workspace, 6, "cpu") == []


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
    found = recompute("r", workspace, 6, "cpu")
    assert found
    assert all(one.volume == "noise" and "is not what the model gives there in one piece" in one.what for one in found)


@pytest.mark.slow
@pytest.mark.parametrize(("learned_nm", "resampled"), [(3.0, (4, 3)), (7.5, (1, 2))])
def test_a_volume_shown_at_another_pixel_size_agrees_too(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, learned_nm: float, resampled: tuple[int, int]
) -> None:
    learned = LearnedAt(pixel_nm=(learned_nm, learned_nm), section_nm=(50, 50))
    card = artefact.card.model_copy(update={"learned_at": learned})
    write_text(artefact.path / CARD, card.model_dump_json())
    make_run(workspace, tmp_path)
    facts = load_run(workspace, "r").volumes["noise"].steps["segment"].facts
    assert isinstance(facts, SegmentFacts)
    assert facts.resampled == resampled
    assert facts.overhead > 1.5, "several tiles with their halos"
    assert recompute("r", workspace, 6, "cpu") == []


def test_a_shorter_halo_that_was_asked_for_is_no_fault(
    workspace: Workspace, artefact: Artefact, tmp_path: Path
) -> None:
    make_run(workspace, tmp_path, TILED.model_copy(update={"halo_px": 4}))
    assert recompute("r", workspace, 6, "cpu") == []


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
    assert "is not what the model gives there in one piece" in err


@pytest.mark.parametrize(
    ("share", "levels", "sound"), [(0.0, 0, True), (0.001, 1, True), (0.01, 1, False), (1e-5, 2, False)]
)
def test_no_more_than_rounding_is_sound(share: float, levels: int, sound: bool) -> None:
    assert Difference(Box((0, 0, 0), (1, 2, 2)), share, levels).sound is sound
