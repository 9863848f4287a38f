"""Eight bits: calibrated on the volume, judged against float32, refused where the mask changes too much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segem.config import ExecutionConfig, SegmentConfig
from segem.io.run import load_run
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.artefact import Artefact
from segem.learn.processor import NO_BYTE_UNITS
from segem.records.run import Int8Facts, SegmentFacts
from segem.stages.reporting.evaluate import evaluate
from segem.stages.segmentation import segment as stage
from segem.stages.segmentation.quantize import sample_tiles
from segem.stages.segmentation.segment import segment
from tests.integration.conftest import make_volume

QUIET = ExecutionConfig(device="cpu")


@pytest.fixture
def ingested(workspace: Workspace, artefact: Artefact, tmp_path: Path) -> Workspace:
    make_volume(workspace, tmp_path / "source", shape=(9, 300, 290))
    return workspace


def config(**more: object) -> SegmentConfig:
    return SegmentConfig(**({"model": "tiny", "runtime": "openvino-int8", "int8_tolerance": 0.5} | more))


def facts_of(workspace: Workspace, run: str) -> tuple[str, Int8Facts]:
    """Return the runtime of a run, and how 8 bits came out."""
    facts = load_run(workspace, run).volumes["noise"].membrane_facts
    assert isinstance(facts, SegmentFacts)
    assert facts.int8 is not None
    return facts.runtime, facts.int8


def test_eight_bits_are_used_where_they_agree_and_a_resumed_run_takes_the_same_model(ingested: Workspace) -> None:
    first = segment("noise", "r", config(), QUIET, ingested)
    runtime, int8 = facts_of(ingested, "r")
    assert first.computed == first.blocks
    assert int8.used is True
    assert " int8 " in runtime
    assert segment("noise", "r", config(int8_tolerance=0.4), QUIET, ingested, replace=True).computed == 0
    exact = segment("noise", "exact", config(runtime="openvino"), QUIET, ingested)
    found, expected = (np.asarray(Volume.open(result.path).raw[:], int) for result in (first, exact))
    assert 0 < np.abs(found - expected).mean() < 10


def test_eight_bits_are_refused_where_the_mask_changes_too_much(
    ingested: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stage, "find_byte_units", lambda: ())
    refused = segment("noise", "r", config(int8_tolerance=0), QUIET, ingested)
    _, int8 = facts_of(ingested, "r")
    assert int8.used is False
    assert int8.disagreement > 0
    assert f"noise: {NO_BYTE_UNITS}" in caplog.text
    exact = segment("noise", "exact", config(runtime="openvino"), QUIET, ingested)
    assert np.array_equal(Volume.open(refused.path).raw[:], Volume.open(exact.path).raw[:])
    (scores,) = evaluate("r", ingested).volumes
    assert any("too much: computed in float32 instead" in warning for warning in scores.warnings)


def test_another_runtime_recomputes_every_block(ingested: Workspace) -> None:
    segment("noise", "r", config(runtime="torch"), QUIET, ingested)
    again = segment("noise", "r", config(runtime="openvino"), QUIET, ingested, replace=True)
    assert again.computed == again.blocks


@pytest.mark.parametrize("shape", [(1, 20, 700), (40, 33, 31)])
def test_tiles_to_look_at_are_spread_and_the_same_each_time(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    make_volume(workspace, tmp_path / "source", shape=shape)
    source = Volume.open(workspace.volume("noise"))
    tiles, again = sample_tiles(source, 3, 4), sample_tiles(source, 3, 4)
    assert all(np.array_equal(a, b) for a, b in zip(tiles, again, strict=True))
    assert len({tile.tobytes() for tile in tiles}) > 10
    assert {tile.shape[0] for tile in tiles} == {3}


def test_tiles_to_look_at_show_something_also_of_a_lattice_wider_than_they_are(
    workspace: Workspace, tmp_path: Path
) -> None:
    make_volume(workspace, tmp_path / "source", shape=(2, 20, 700))
    tiles = sample_tiles(Volume.open(workspace.volume("noise")), 1, 512)
    assert {tile.shape for tile in tiles} == {(1, 20, 512)}


@pytest.mark.parametrize("name", ["model.bin", "model.xml"])
def test_a_damaged_eight_bit_model_is_made_again(ingested: Workspace, name: str) -> None:
    segment("noise", "r", config(), QUIET, ingested)
    (file,) = ingested.run("r").rglob(name)
    file.write_bytes(file.read_bytes()[:20])
    again = segment("noise", "r", config(), QUIET, ingested)
    assert again.computed + again.skipped == again.blocks
    assert file.stat().st_size > 20
