"""A volume is segmented whole, resumes, and never passes for whole when it is not."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from segem.config import BaselineConfig, EngineName, ExecutionConfig, IngestConfig, SegmentConfig
from segem.errors import ConfigError, IncompleteError, InputError, ModelError, WorkspaceError
from segem.execute.run import execute
from segem.execute.work import BlockOutcome, Sweep
from segem.geometry import Box, Halo
from segem.io.blocks import shard_path
from segem.io.files import write_text
from segem.io.ledger import Ledger, LedgerRow, PhaseKey
from segem.io.readers import open_stack
from segem.io.run import enter_volumes, load_run, result_volume, volume_lock
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.normalize import zscore
from segem.kernels.threshold import quantize_probability
from segem.learn.artefact import CARD, Artefact, load_artefact, load_net
from segem.learn.engine import Engine
from segem.learn.scale import Rescaled, Scale, at_scale
from segem.plan import Block, Plan, crop_tiling
from segem.records.card import LearnedAt
from segem.stages.reporting.evaluate import evaluate
from segem.stages.segmentation import segment as stage
from segem.stages.segmentation import step
from segem.stages.segmentation.arithmetic.segment import SegmentArithmetic
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.export import export
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import Fault, verify
from segem.stages.volumes.ingest import ingest
from tests.integration.conftest import make_artefact, make_volume

QUIET = ExecutionConfig(device="cpu")
TILED = SegmentConfig(model="tiny", tile_px=64)


def output_of(workspace: Workspace, run: str = "r") -> str:
    result = Volume.open(workspace.result(run, "noise"))
    digest = hashlib.sha256(np.asarray(result.raw[:]).tobytes())
    digest.update(np.asarray(result.label("membrane")[:]).tobytes())
    return digest.hexdigest()


def segment_noise(folder: Path) -> Workspace:
    """Ingest and segment a volume below a folder, and return its workspace."""
    workspace = Workspace(folder / "workspace")
    workspace.prepare()
    make_artefact(workspace, seed=0)
    make_volume(workspace, folder / "source")
    segment("noise", "r", TILED, QUIET, workspace)
    return workspace


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with such a workspace, which no test changes."""
    return segment_noise(tmp_path_factory.mktemp("finished")).root.parent


@pytest.fixture
def segmented(finished: Path, tmp_path: Path) -> Workspace:
    """Return a copy of that workspace; its source is another file now, so it is not ingested again."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return Workspace(tmp_path / "workspace")


def test_every_voxel_is_written_and_recorded(segmented: Workspace) -> None:
    record = load_run(segmented, "r").volumes["noise"].membrane
    assert record is not None
    assert record.state == "complete"
    # 18 sections of 300 x 290 fill shards of 8 x 512 x 512.
    assert record.facts.blocks == record.facts.computed == 3
    assert verify("r", segmented) == []
    probability = np.asarray(Volume.open(segmented.result("r", "noise")).raw[:])
    mask = np.asarray(Volume.open(segmented.result("r", "noise")).label("membrane")[:])
    assert (mask == (probability >= 128)).all()
    assert 0 < mask.mean() < 1


def test_tiles_equal_whole_sections(segmented: Workspace) -> None:
    segment("noise", "whole", SegmentConfig(model="tiny"), QUIET, segmented)
    assert load_run(segmented, "whole").volumes["noise"].membrane.facts.overhead == 1
    tiled = np.asarray(Volume.open(segmented.result("r", "noise")).raw[:]).astype(int)
    whole = np.asarray(Volume.open(segmented.result("whole", "noise")).raw[:]).astype(int)
    # Stored in 8 bits, a difference of 1e-7 may still turn a rounding.
    assert np.abs(tiled - whole).max() <= 1
    assert (tiled != whole).mean() < 1e-3


def test_a_second_run_computes_nothing(segmented: Workspace) -> None:
    before = output_of(segmented)
    again = segment("noise", "r", TILED, QUIET, segmented)
    assert (again.computed, again.skipped) == (0, 3)
    assert output_of(segmented) == before


def test_what_changes_decides_what_is_computed_again(tmp_path: Path) -> None:
    segmented = segment_noise(tmp_path)
    make_volume(segmented, tmp_path / "source", change=17)
    # One voxel moves the statistics of the volume, so every block is made of something else.
    assert segment("noise", "r", TILED, QUIET, segmented).computed == 3
    make_artefact(segmented, seed=1)
    assert segment("noise", "r", TILED, QUIET, segmented, replace=True).computed == 3
    other = TILED.model_copy(update={"threshold": 0.4})
    assert segment("noise", "r", other, QUIET, segmented, replace=True).computed == 3
    assert segment("noise", "r", other, QUIET, segmented).computed == 0


def test_only_a_damaged_block_is_computed_again(segmented: Workspace) -> None:
    before = output_of(segmented)
    result = Volume.open(segmented.result("r", "noise"))
    boxes = [block.write for block in _plan(result).blocks()]
    shard_path(result.raw, boxes[1]).unlink()
    damaged = shard_path(result.label("membrane"), boxes[2])
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    faults = verify("r", segmented)
    assert [fault.what for fault in faults] == [
        "segment block (1, 0, 0): its file is missing",
        "segment block (2, 0, 0): its voxels are not those that were written",
    ]
    again = segment("noise", "r", TILED, QUIET, segmented)
    assert (again.computed, again.skipped) == (2, 1)
    assert verify("r", segmented) == []
    assert output_of(segmented) == before


def test_a_lost_ledger_costs_time_and_nothing_else(segmented: Workspace) -> None:
    before = output_of(segmented)
    for file in segmented.run("r").glob("ledger.sqlite*"):
        file.unlink()
    assert "no record" in verify("r", segmented)[0].what
    assert segment("noise", "r", TILED, QUIET, segmented).computed == 3
    assert output_of(segmented) == before


@pytest.mark.slow
def test_dask_gives_the_same_bytes_as_the_loop(segmented: Workspace) -> None:
    execution = ExecutionConfig(engine="dask", workers=2, device="cpu")
    result = segment("noise", "dask", TILED, execution, segmented)
    assert result.computed == 3
    assert output_of(segmented, "dask") == output_of(segmented, "r")
    assert segment("noise", "r", TILED, execution, segmented).skipped == 3


def test_a_failing_block_is_named_and_the_others_are_kept(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_volume(workspace, tmp_path / "source")
    real = Engine.predict_block

    def poisoned(self, plan, block, voxels, *more, **options):
        if block.index == (1, 0, 0):
            voxels = voxels[:1]
        return real(self, plan, block, voxels, *more, **options)

    monkeypatch.setattr(Engine, "predict_block", poisoned)
    with pytest.raises(IncompleteError, match=r"1 of 3 blocks are not finished, the first is block \(1, 0, 0\)"):
        segment("noise", "r", TILED, QUIET, workspace)
    record = load_run(workspace, "r").volumes["noise"].membrane
    assert record is not None
    assert record.state == "failed"
    assert "block (1, 0, 0)" in str(record.reason)
    assert "block (1, 0, 0)" in verify("r", workspace)[0].what
    monkeypatch.undo()
    again = segment("noise", "r", TILED, QUIET, workspace)
    assert (again.computed, again.skipped) == (1, 2)


def test_two_runs_on_one_output_are_refused(segmented: Workspace) -> None:
    with volume_lock(segmented, "r", "noise"), pytest.raises(WorkspaceError, match="another process"):
        segment("noise", "r", TILED, QUIET, segmented)


def test_missing_volume_model_and_run_are_named(workspace: Workspace, artefact: Artefact) -> None:
    with pytest.raises(InputError, match="segem ingest"):
        segment("nothing", "r", TILED, QUIET, workspace)
    make_volume(workspace, workspace.root / "source")
    with pytest.raises(ModelError, match="no such model"):
        segment("noise", "r", SegmentConfig(model="nothing"), QUIET, workspace)
    with pytest.raises(WorkspaceError, match="no such run"):
        verify("nothing", workspace)


def test_a_missing_input_block_is_never_taken_for_background(segmented: Workspace) -> None:
    source = Volume.open(segmented.volume("noise"))
    shard_path(source.raw, next(_plan(source).blocks()).write).unlink()
    with pytest.raises(WorkspaceError, match="missing"):
        segment("noise", "other", TILED, QUIET, segmented)


def test_a_damaged_ledger_is_named(segmented: Workspace) -> None:
    for file in segmented.run("r").glob("ledger.sqlite*"):
        file.unlink()
    segmented.ledger("r").write_bytes(b"not a database, but long enough to be looked at" * 40)
    with pytest.raises(WorkspaceError, match="ledger of the run cannot be used"):
        segment("noise", "r", TILED, QUIET, segmented)


def test_the_ledger_keeps_rows_of_a_volume_apart(tmp_path: Path, segmented: Workspace) -> None:
    with Ledger(segmented.ledger("r")) as ledger:
        assert len(ledger.rows(PhaseKey("noise", "segment", "blocks"))) == 3
        assert ledger.rows(PhaseKey("other", "segment", "blocks")) == {}
    with sqlite3.connect(segmented.ledger("r")) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_export_writes_what_is_stored_and_masks_as_255(segmented: Workspace, tmp_path: Path) -> None:
    import tifffile

    out = export("r", "noise", "membrane", tmp_path / "m.tif", segmented)
    mask = np.asarray(Volume.open(segmented.result("r", "noise")).label("membrane")[:])
    assert np.array_equal(tifffile.imread(out), mask * 255)
    raw = export("r", "noise", "raw", tmp_path / "r.tif", segmented)
    assert np.array_equal(tifffile.imread(raw), tifffile.imread(tmp_path / "source" / "noise.tif"))
    with pytest.raises(ConfigError, match="the layer baseline of this volume is not finished"):
        export("r", "noise", "baseline", tmp_path / "k.tif", segmented)
    with pytest.raises(ConfigError, match="no such layer"):
        export("r", "noise", "skeleton", tmp_path / "k.tif", segmented)
    assert not (tmp_path / "k.tif").exists()
    shutil.rmtree(segmented.root)


@pytest.mark.parametrize("name", ["m.ome.tif", "m.h5", "m.zarr", "m"])
def test_an_export_in_any_format_is_read_again(segmented: Workspace, tmp_path: Path, name: str) -> None:
    mask = np.asarray(Volume.open(segmented.result("r", "noise")).label("membrane")[:])
    with open_stack(export("r", "noise", "membrane", tmp_path / name, segmented)) as stack:
        assert np.array_equal(stack.read(Box.of_shape(stack.shape)), mask * 255)
    with pytest.raises(ConfigError, match=r"this is a folder|the file exists already"):
        export("r", "noise", "membrane", tmp_path / name, segmented)


@pytest.mark.parametrize("name", ["m.png", "m.jpg", "m.mrc"])
def test_an_export_never_has_the_name_of_another_format(segmented: Workspace, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="a PNG holds one section" if name == "m.png" else "no such format to write"):
        export("r", "noise", "membrane", tmp_path / name, segmented)
    assert not (tmp_path / name).exists()


def test_a_volume_whose_voxels_are_insisted_on_is_exported(workspace: Workspace, tmp_path: Path) -> None:
    make_volume(workspace, tmp_path / "source", (2, 64, 64))
    odd = IngestConfig(
        name="odd", source=tmp_path / "source" / "noise.tif", voxel_nm=(0.05, 0.002, 0.002), trust_voxel=True
    )
    ingest(odd, workspace)
    enter_volumes(workspace, "r", ["odd"])
    for name in ("a.tif", "a.ome.tif", "a.h5", "a.zarr"):
        with open_stack(export("r", "odd", "raw", tmp_path / name, workspace)) as stack:
            assert stack.shape == (2, 64, 64)


def test_a_volume_is_shown_at_the_pixel_size_that_the_model_learned_at(
    workspace: Workspace, artefact: Artefact, tmp_path: Path
) -> None:
    make_volume(workspace, tmp_path / "source", (1, 64, 64))
    found = {}
    for pixel_nm in ((3.0, 5.0), (7.0, 8.0)):
        card = artefact.card.model_copy(update={"learned_at": LearnedAt(pixel_nm=pixel_nm, section_nm=(50, 50))})
        write_text(artefact.path / CARD, card.model_dump_json())
        segment("noise", "r", SegmentConfig(model="tiny"), QUIET, workspace, replace=True)
        facts = load_run(workspace, "r").volumes["noise"].membrane.facts
        assert not [one for one in facts.warnings if "learned at" in one]
        volume = Volume.open(workspace.result("r", "noise"))
        found[facts.resampled] = np.asarray(volume.raw[0])
    # Pixels of 4 nm for a model of 7 to 8 nm: one for two, and the result has the size of the volume.
    assert set(found) == {(1, 1), (1, 2)}
    source = Volume.open(workspace.volume("noise"))
    seen = zscore(np.asarray(source.raw[:1]), source.statistics)
    with torch.inference_mode():
        logits = Rescaled(load_net(load_artefact(artefact.path)), Scale(1, 2))(torch.from_numpy(seen)[None])
    expected = quantize_probability(torch.sigmoid(logits)[0, 0].numpy())
    assert np.abs(found[1, 2].astype(int) - expected).max() <= 1
    assert np.abs(found[1, 1].astype(int) - expected).max() > 1
    far = artefact.card.model_copy(update={"learned_at": LearnedAt(pixel_nm=(17, 20), section_nm=(50, 50))})
    write_text(artefact.path / CARD, far.model_dump_json())
    with pytest.raises(ConfigError, match="too far from those the model learned at"):
        segment("noise", "far", SegmentConfig(model="tiny"), QUIET, workspace)


def test_the_probabilities_at_several_pixel_sizes_are_averaged(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_volume(workspace, tmp_path / "source", (1, 64, 64))
    segment("noise", "r", SegmentConfig(model="tiny", resample="several"), QUIET, workspace)
    assert "the mean of 3 pixel sizes, which is 7 times the work" in capsys.readouterr().err
    facts = load_run(workspace, "r").volumes["noise"].membrane.facts
    assert facts.sizes == ((1, 1), (3, 2), (2, 1))
    source, net = Volume.open(workspace.volume("noise")), load_net(load_artefact(artefact.path))
    seen = torch.from_numpy(zscore(np.asarray(source.raw[:1]), source.statistics))[None]
    with torch.inference_mode():
        each = [torch.sigmoid(at_scale(net, Scale(*size), 1)(seen))[0, 0].numpy() for size in facts.sizes]
    found = np.asarray(Volume.open(workspace.result("r", "noise")).raw[0]).astype(int)
    assert np.abs(found - quantize_probability(np.mean(each, axis=0))).max() <= 1
    assert np.abs(found - quantize_probability(each[0])).max() > 1


def test_pixels_of_a_size_that_the_model_never_saw_are_warned_of(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_volume(workspace, tmp_path / "source", (1, 64, 64))
    for pixel_nm in ((3.0, 5.0), (7.0, 8.0)):
        card = artefact.card.model_copy(update={"learned_at": LearnedAt(pixel_nm=pixel_nm, section_nm=(50, 50))})
        write_text(artefact.path / CARD, card.model_dump_json())
        segment("noise", "r", SegmentConfig(model="tiny", resample="never"), QUIET, workspace, replace=True)
        warned = [
            one for one in load_run(workspace, "r").volumes["noise"].membrane.facts.warnings if "learned at" in one
        ]
        assert warned == [one.message.removeprefix("noise: ") for one in caplog.records if "learned at" in one.message]
        assert bool(warned) == (pixel_nm == (7.0, 8.0))
    assert "pixels of 4 x 4 nm, and tiny learned at 7 to 8 nm" in warned[0]


def test_a_volume_ingested_anew_makes_old_masks_worthless(tmp_path: Path) -> None:
    segmented = segment_noise(tmp_path)
    baseline("noise", "r", BaselineConfig(), segmented)
    make_volume(segmented, tmp_path / "source", change=3)
    changed = "the volume has changed since the segmentation; run again"
    assert [fault.what for fault in verify("r", segmented)] == [changed]
    assert evaluate("r", segmented).failed() == {"noise": changed}
    with pytest.raises(ConfigError, match="has changed since"):
        export("r", "noise", "membrane", tmp_path / "m.tif", segmented)
    segment("noise", "r", TILED, QUIET, segmented)
    assert verify("r", segmented) == [
        Fault("noise", "the volume has changed since the baseline; run again", step="baseline")
    ]
    warnings = evaluate("r", segmented).volumes[0].warnings
    assert any("no baseline: the volume has changed" in warning for warning in warnings)


def test_a_volume_replaced_during_a_stage_fails_it(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_volume(workspace, tmp_path / "source")
    real = execute

    def replaced_meanwhile(*args, **kwargs):
        summary = real(*args, **kwargs)
        make_volume(workspace, tmp_path / "source", change=3)
        return summary

    monkeypatch.setattr(step, "execute", replaced_meanwhile)
    with pytest.raises(WorkspaceError, match="replaced during the segment step"):
        segment("noise", "r", TILED, QUIET, workspace)
    assert load_run(workspace, "r").volumes["noise"].membrane.state == "failed"


def test_a_volume_a_run_never_reached_is_missed(segmented: Workspace) -> None:
    enter_volumes(segmented, "r", ["noise", "second"])
    faults = {fault.volume: fault.what for fault in verify("r", segmented)}
    assert faults["noise"].startswith("the segmentation is still to come")
    assert faults["second"] == "the segmentation was never started"


@pytest.mark.parametrize("name", ["run", "report", "ledger"])
def test_volumes_may_be_named_like_files_of_a_run(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, name: str
) -> None:
    make_volume(workspace, tmp_path / "source", shape=(2, 64, 64), name=name)
    assert segment(name, "r", TILED, QUIET, workspace).computed == 1
    assert verify("r", workspace) == []


def test_verify_sees_damage_in_every_layer(segmented: Workspace) -> None:
    baseline("noise", "r", BaselineConfig(), segmented)
    result, source = Volume.open(segmented.result("r", "noise")), Volume.open(segmented.volume("noise"))
    layers = [
        result.label("baseline"),
        result.levels()[1],
        result.levels("membrane")[1],
        source.raw,
        source.levels()[1],
    ]
    first = Box((0, 0, 0), (1, 1, 1))
    for layer in layers:
        file = shard_path(layer, first)
        kept = file.read_bytes()
        file.unlink()
        assert len(verify("r", segmented)) == 1, file
        file.write_bytes(kept)
    assert verify("r", segmented) == []


def test_a_result_too_damaged_to_open_is_made_anew(segmented: Workspace) -> None:
    before = output_of(segmented)
    (segmented.result("r", "noise") / "0" / "zarr.json").write_text("{")
    assert segment("noise", "r", TILED, QUIET, segmented).computed == 3
    assert output_of(segmented) == before


def test_a_model_replaced_during_a_run_is_refused(workspace: Workspace, artefact: Artefact, tmp_path: Path) -> None:
    make_volume(workspace, tmp_path / "source")
    source, result = Volume.open(workspace.volume("noise")), result_volume(workspace, "r", "noise")
    plan = stage.make_plan(TILED, artefact.card, source, result)
    work = SegmentArithmetic(source.path, artefact.path, artefact.digest, "cpu", plan, 0.5, "once")
    make_artefact(workspace, seed=1)
    with pytest.raises(ModelError, match="replaced during the run"):
        work.read(plan.block((0, 0, 0)))


@pytest.mark.parametrize("engine", ["loop", pytest.param("dask", marks=pytest.mark.slow)])
def test_an_unexpected_error_in_one_block_stops_no_other(tmp_path: Path, engine: EngineName) -> None:
    plan = Plan((4, 8, 8), (1, 8, 8), crop_tiling((4, 8, 8), (1, 8, 8), Halo(), 1))
    config = ExecutionConfig(engine=engine, workers=2 if engine == "dask" else 1)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        summary = execute(Sweep(plan, Fragile(), {}, tmp_path), config, partial(ledger.record, KEY))
        assert len(ledger.rows(KEY)) == 3
    assert summary.computed == 3
    assert list(summary.failed) == [(2, 0, 0)]
    assert "MemoryError: too much" in summary.failed[2, 0, 0]


KEY = PhaseKey("v", "fragile", "blocks")


class Fragile:
    """Work whose third block cannot be computed."""

    def load(self, block: Block, known: LedgerRow | None) -> Block:
        return block

    def compute(self, loaded: Block, threads: int | None, on_voxels: object) -> Block:
        if loaded.index == (2, 0, 0):
            raise MemoryError("too much")
        return loaded

    def store(self, computed: Block) -> BlockOutcome:
        return BlockOutcome(computed.index, LedgerRow("made of", "digest"), computed=True)


def _plan(volume: Volume) -> Plan:
    return Plan(volume.shape, volume.write_block, crop_tiling(volume.shape, volume.write_block, Halo(), 4, 64))


def test_a_tile_that_somebody_chose_must_fit_the_memory(
    workspace: Workspace, artefact: Artefact, tmp_path: Path
) -> None:
    make_volume(workspace, tmp_path / "source")
    execution = QUIET.model_copy(update={"memory": 700_000_001})
    with pytest.raises(ConfigError, match=r"memory allowed.*raise --memory"):
        segment("noise", "r", TILED, execution, workspace)
    assert segment("noise", "r", TILED, QUIET.model_copy(update={"memory": 2 * 10**9}), workspace).computed == 3


def test_nobody_is_at_work_any_more_when_the_ledger_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan((9, 8, 8), (1, 8, 8), crop_tiling((9, 8, 8), (1, 8, 8), Halo(), 1))

    def refuse(*_: object) -> None:
        raise WorkspaceError("the ledger is full")

    before = threading.active_count()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        monkeypatch.setattr(Ledger, "record", refuse)
        with pytest.raises(WorkspaceError, match="the ledger is full") as caught:
            execute(Sweep(plan, Fragile(), {}, tmp_path), QUIET, partial(ledger.record, KEY))
        assert threading.active_count() == before, caught
