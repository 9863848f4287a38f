"""What the flows promise: order, isolation of failures, retries, a bounded number of task runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import State, TaskRun
from prefect.client.schemas.sorting import ArtifactSort
from prefect.states import Failed
from prefect.utilities.callables import parameter_schema

from flows import steps
from flows.baseline import baseline_volume
from flows.campaign import CampaignOutcome, campaign
from flows.cells import cells_of_volume
from flows.ingest import ingest_volume
from flows.refine import refine_volume
from flows.report import report_run
from flows.retrain import retrain
from flows.segment import segment_step, segment_volume
from flows.steps import may_pass, step
from segem.config import BUNDLED_MODEL, BaselineConfig, ExecutionConfig, IngestConfig, RefineConfig, SegmentConfig
from segem.errors import (
    BlockError,
    ConfigError,
    IncompleteError,
    InputError,
    ModelError,
    SegemError,
    WorkspaceError,
)
from segem.io.workspace import Workspace
from segem.records.review import Place
from segem.stages.campaign import hold_run, open_campaign, record_volumes
from segem.stages.segmentation.verify import verify
from tests.fabricate import decide

pytestmark = pytest.mark.usefixtures("prefect_server")

QUIET = ExecutionConfig()
MOST_TASK_RUNS_PER_VOLUME = 50


def run_id(state: State[Any]) -> UUID:
    found = state.state_details.flow_run_id
    assert found is not None
    return found


def task_runs(state: State[Any]) -> list[TaskRun]:
    """Return the task runs of a flow run, in the order they started."""
    this = FlowRunFilter(id=FlowRunFilterId(any_=[run_id(state)]))
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(flow_run_filter=this)
    return sorted(found, key=lambda run: run.expected_start_time or run.created)


def artifacts(state: State[Any]) -> dict[str | None, Any]:
    """Return the data of each artifact of a flow run by key: of several the one that its page shows, the last."""
    this = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id(state)]))
    with get_client(sync_client=True) as client:
        newest_first = client.read_artifacts(artifact_filter=this, sort=ArtifactSort.CREATED_DESC)
    return {found.key: found.data for found in reversed(newest_first)}


def run_campaign(manifest: Path, workspace: Path, run: str | None = "r1") -> State[CampaignOutcome]:
    state = campaign(manifest, run=run, workspace=workspace, execution=QUIET, return_state=True)
    # The state that the flow returns becomes its own.
    return cast("State[CampaignOutcome]", state)


def scores_of(workspace: Path, run: str = "r1") -> dict[str, Any]:
    values = json.loads((workspace / "runs" / run / "report" / "report.json").read_text())
    return {volume["name"]: volume for volume in values["volumes"]}


def test_a_campaign_that_is_to_be_reviewed_waits_in_a_state_of_its_own(
    manifest_of: Callable[..., Path], tmp_path: Path
) -> None:
    manifest = manifest_of("alpha")
    asked = yaml.safe_load(manifest.read_text()) | {"review": {"share": 0.6}}
    manifest.write_text(yaml.safe_dump(asked), encoding="utf-8")
    state = run_campaign(manifest, tmp_path / "w")
    assert state.is_completed()
    assert state.name == "AwaitingReview"
    assert state.message == "r1: 0 of 2 regions are reviewed; open the others with `segem review r1`"
    assert state.result().report.is_file()

    space, truth = Workspace(tmp_path / "w"), np.zeros((2, 96, 80))

    def say(z: int, decision: str) -> None:
        decide(space, "r1", Place(volume="alpha", z=z, y=0, x=0, height=96, width=80), truth, decision)

    say(0, "reject")
    say(1, "unsure")
    assert run_campaign(manifest, tmp_path / "w").name == "AwaitingReview"
    say(1, "accept")
    assert run_campaign(manifest, tmp_path / "w").name == "Completed"


def test_each_step_is_a_flow_of_its_own(tiny_stacks: Path, tiny_model: Path, tmp_path: Path) -> None:
    source = IngestConfig(name="alpha", source=tiny_stacks / "alpha" / "raw.tif", voxel_nm=(50, 4, 4))
    workspace = tmp_path / "w"

    ingested = ingest_volume(source, workspace)
    clustered = baseline_volume("alpha", "r1", BaselineConfig(), QUIET, workspace)
    segmented = segment_volume("alpha", "r1", SegmentConfig(model=str(tiny_model)), QUIET, workspace)
    refined = refine_volume("alpha", "r2", RefineConfig(of="r1"), QUIET, workspace)
    divided = cells_of_volume("alpha", "r1", execution=QUIET, workspace=workspace)
    reported = report_run("r1", workspace)

    assert ingested.shape == (2, 96, 80)
    assert clustered.dark < clustered.threshold < clustered.bright
    assert segmented.computed == segmented.blocks > 0
    assert refined.computed == refined.blocks > 0
    assert divided.computed == divided.blocks > 0
    assert "alpha" in reported.index.read_text(encoding="utf-8")


def test_a_campaign_takes_every_volume_to_the_report(manifest_of: Callable[..., Path], tmp_path: Path) -> None:
    state = run_campaign(manifest_of("alpha", "Beta_2"), tmp_path / "w")

    outcome = state.result()
    assert outcome.volumes == ("alpha", "Beta_2")
    assert outcome.run == "r1"
    assert outcome.report.is_file()
    scores = scores_of(tmp_path / "w")
    for volume in outcome.volumes:
        assert 0 <= scores[volume]["iou"]["model"] < 1
        assert 0 < scores[volume]["iou"]["baseline"] < 1

    names = [run.name for run in task_runs(state)]
    steps_of = {volume: [name.split()[0] for name in names if name.endswith(volume)] for volume in outcome.volumes}
    assert steps_of == {volume: ["ingest", "baseline", "segment", "score"] for volume in outcome.volumes}
    assert names[-1] == "report r1"
    assert len(names) <= MOST_TASK_RUNS_PER_VOLUME * len(outcome.volumes)

    found = artifacts(state)
    assert set(found) == {"campaign-progress", "status", "iou-of-volumes", "report"}
    rows = {row["volume"]: row for row in json.loads(found["iou-of-volumes"])}
    assert rows["alpha"]["IoU of the model"] == f"{scores['alpha']['iou']['model']:.4f}"
    assert outcome.report.as_uri() in found["report"]
    assert found["campaign-progress"] == 100.0


def test_a_volume_of_many_blocks_takes_no_more_task_runs(tiny_model: Path, tmp_path: Path) -> None:
    import numpy as np
    import tifffile

    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "raw.tif", rng.integers(0, 255, (60, 24, 24), dtype=np.uint8))
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(
        f"{{name: m, model: {tiny_model}, volumes: [{{name: deep, source: raw.tif, voxel_nm: [50, 4, 4]}}]}}"
    )

    state = run_campaign(manifest, tmp_path / "w")

    recorded = json.loads((tmp_path / "w/runs/r1/run.json").read_text())["volumes"]["deep"]
    assert recorded["steps"]["segment"]["facts"]["blocks"] > 4
    names = [run.name for run in task_runs(state)]
    assert names == ["ingest deep", "baseline deep", "segment deep", "score deep", "report r1"]


def test_a_failing_volume_does_not_stop_the_others(manifest_of: Callable[..., Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0 this is no stack")
    manifest = manifest_of("alpha", "Beta_2", "gamma", changes={"Beta_2": {"source": str(broken)}})

    state = run_campaign(manifest, tmp_path / "w")

    assert state.is_failed()
    error = state.result(raise_on_failure=False)
    assert isinstance(error, IncompleteError)
    assert "1 of 3 volumes failed" in str(error)
    assert "Beta_2" in str(error)
    assert "broken.tif" in str(error)
    assert "alpha" not in str(error).replace(str(tmp_path), "")
    assert "\n" not in str(error)
    assert "Beta_2" in (state.message or "")

    scores = scores_of(tmp_path / "w")
    assert scores["alpha"]["iou"]["model"] is not None
    assert scores["gamma"]["iou"]["model"] is not None
    assert scores["Beta_2"]["iou"] is None
    page = (tmp_path / "w/runs/r1/report/index.html").read_text(encoding="utf-8")
    assert "Beta_2" in page
    assert "broken.tif" in page

    tried = [run for run in task_runs(state) if run.name.endswith("Beta_2")]
    assert [(run.name, run.run_count) for run in tried] == [("ingest Beta_2", 1)], "damaged data are not tried again"


def test_a_repeated_campaign_mends_what_failed_and_keeps_the_rest(
    manifest_of: Callable[..., Path], tiny_stacks: Path, tmp_path: Path
) -> None:
    late = tmp_path / "late.tif"
    late.write_bytes(b"")
    manifest = manifest_of("alpha", "gamma", changes={"gamma": {"source": str(late), "labels": None}})
    assert run_campaign(manifest, tmp_path / "w").is_failed()

    late.write_bytes((tiny_stacks / "gamma" / "raw.tif").read_bytes())
    assert run_campaign(manifest, tmp_path / "w").is_completed()

    volumes = json.loads((tmp_path / "w/runs/r1/run.json").read_text())["volumes"]
    assert volumes["gamma"]["failure"] is None
    assert volumes["gamma"]["steps"]["segment"]["facts"]["computed"] > 0
    assert volumes["alpha"]["steps"]["segment"]["facts"]["computed"] == 0


def test_a_report_is_made_when_every_volume_failed(manifest_of: Callable[..., Path], tmp_path: Path) -> None:
    nowhere = {"source": str(tmp_path / "nowhere.tif")}
    state = run_campaign(manifest_of("alpha", "gamma", changes={"alpha": nowhere, "gamma": nowhere}), tmp_path / "w")

    assert "2 of 2 volumes failed" in str(state.result(raise_on_failure=False))
    assert {name: scores["state"] for name, scores in scores_of(tmp_path / "w").items()} == {
        "alpha": "failed",
        "gamma": "failed",
    }


def test_failed_volumes_are_named_even_without_a_report(
    manifest_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise WorkspaceError("no space left")

    monkeypatch.setattr("flows.campaign.report_step", refuse)
    whole = manifest_of("alpha")
    assert "no space left" in str(run_campaign(whole, tmp_path / "w").result(raise_on_failure=False))

    broken = manifest_of("alpha", changes={"alpha": {"source": str(tmp_path / "nowhere.tif")}})
    assert "alpha" in str(run_campaign(broken, tmp_path / "w2").result(raise_on_failure=False))


def test_volumes_that_a_killed_campaign_never_reached_are_missed(
    manifest_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_of("alpha", "Beta_2", "gamma")
    entered = []

    def look(*_: object) -> None:
        entered.append(list(json.loads((tmp_path / "w/runs/r1/run.json").read_text())["volumes"]))
        raise InputError("far enough")

    monkeypatch.setattr("flows.campaign._take_step", look)
    run_campaign(manifest, tmp_path / "w")
    assert entered[0] == ["alpha", "Beta_2", "gamma"], "all of them, before the first one starts"

    job = open_campaign(manifest, "r2", tmp_path / "w")
    record_volumes(job)
    assert [fault.volume for fault in verify("r2", job.workspace)] == ["alpha", "Beta_2", "gamma"]


def test_a_run_belongs_to_one_campaign_at_a_time(manifest_of: Callable[..., Path], tmp_path: Path) -> None:
    manifest = manifest_of("alpha")
    job = open_campaign(manifest, "r1", tmp_path / "w")
    with hold_run(job):
        record_volumes(job)
        before = (tmp_path / "w/runs/r1/run.json").read_bytes()
        state = run_campaign(manifest, tmp_path / "w")
        error = state.result(raise_on_failure=False)
        assert isinstance(error, WorkspaceError)
        assert "run r1 cannot start: " in str(error)
        assert "Fix: wait" in str(error)
        assert task_runs(state) == []
        assert (tmp_path / "w/runs/r1/run.json").read_bytes() == before
    assert run_campaign(manifest, tmp_path / "w").is_completed(), "the run is free again"


def test_a_failure_that_only_the_report_sees_fails_the_campaign(
    manifest_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def and_damage(volume: str, *more: Any) -> None:
        segment_step(volume, *more)
        if volume == "gamma":
            next((tmp_path / "w/runs/r1/gamma.ome.zarr/labels/membrane").rglob("c/0/0/0")).unlink()

    monkeypatch.setattr("flows.campaign.segment_step", and_damage)
    error = run_campaign(manifest_of("alpha", "gamma"), tmp_path / "w").result(raise_on_failure=False)

    assert isinstance(error, IncompleteError)
    assert "1 of 2 volumes failed; found gamma (" in str(error)
    assert {name: volume["state"] for name, volume in scores_of(tmp_path / "w").items()} == {
        "alpha": "complete",
        "gamma": "failed",
    }


def test_a_failed_block_fails_the_flow_and_is_named(
    manifest_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segem.learn.engine import Engine

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the device gave up")

    monkeypatch.setattr(steps, "RETRY_DELAYS_S", [])
    monkeypatch.setattr(Engine, "predict_block", fail)
    state = run_campaign(manifest_of("alpha"), tmp_path / "w")

    assert state.is_failed()
    error = state.result(raise_on_failure=False)
    assert isinstance(error, IncompleteError)
    for text in (str(error), str(state.message), str(scores_of(tmp_path / "w")["alpha"]["reason"])):
        assert "alpha" in text
        assert "block (0, 0, 0)" in text
    assert scores_of(tmp_path / "w")["alpha"]["state"] == "failed"
    states = {run.name: run.state_name for run in task_runs(state)}
    assert states["segment alpha"] == "Failed"


def test_a_missing_model_fails_before_any_work(manifest_of: Callable[..., Path], tmp_path: Path) -> None:
    state = run_campaign(manifest_of("alpha", model="no-such-model"), tmp_path / "w")

    assert isinstance(state.result(raise_on_failure=False), ModelError)
    assert task_runs(state) == []


def test_a_campaign_of_another_model_keeps_what_is_there_unless_told_to(
    manifest_of: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    run_campaign(manifest_of("alpha"), tmp_path / "w").result()
    page = tmp_path / "w" / "runs" / "r1" / "run.json"
    before = page.read_bytes()
    manifest = manifest_of("alpha", model=BUNDLED_MODEL)
    with pytest.raises(ConfigError, match=r"expected model unet-em .*, found model tiny .*--replace"):
        run_campaign(manifest, tmp_path / "w").result()
    assert page.read_bytes() == before
    campaign(manifest, run="r1", workspace=tmp_path / "w", execution=QUIET, replace=True)
    assert json.loads(page.read_text())["volumes"]["alpha"]["steps"]["segment"]["model"]["name"] == BUNDLED_MODEL


def test_a_run_nobody_named_is_named_after_its_manifest_and_resumed(
    manifest_of: Callable[..., Path], tmp_path: Path
) -> None:
    manifest = manifest_of("alpha")
    first = run_campaign(manifest, tmp_path / "w", run=None).result()
    second = run_campaign(manifest, tmp_path / "w", run=None).result()

    assert first.run.startswith("tiny-")
    assert second.run == first.run


def test_sources_count_from_the_data_root(manifest_of: Callable[..., Path], tiny_stacks: Path, tmp_path: Path) -> None:
    manifest = manifest_of("alpha", changes={"alpha": {"source": "alpha/raw.tif", "labels": None}})

    state = campaign(
        manifest, run="r1", workspace=tmp_path / "w", data_root=tiny_stacks, execution=QUIET, return_state=True
    )

    assert state.is_completed()


@pytest.mark.parametrize(
    "deployed",
    [campaign, ingest_volume, baseline_volume, segment_volume, refine_volume, cells_of_volume, report_run, retrain],
)
def test_a_server_can_read_the_parameters_of_a_flow(deployed: Flow[..., Any]) -> None:
    schema = parameter_schema(deployed).model_dump()

    Draft202012Validator.check_schema(schema)
    assert "workspace" in schema["properties"]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConfigError("a"), False),
        (InputError("a"), False),
        (ModelError("a"), False),
        (WorkspaceError("a"), True),
        (BlockError("a"), True),
        (OSError("a"), True),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, again: bool) -> None:
    state: State[Any] = Failed(data=error)
    assert may_pass(None, None, state) is again


@pytest.mark.parametrize(
    ("error", "failures", "runs", "ends_well"),
    [
        (InputError("damaged"), 1, 1, False),
        (WorkspaceError("in use"), 2, 3, True),
        (WorkspaceError("in use"), 9, 3, False),
    ],
)
def test_a_step_is_run_as_often_as_its_error_deserves(
    monkeypatch: pytest.MonkeyPatch, error: SegemError, failures: int, runs: int, ends_well: bool
) -> None:
    monkeypatch.setattr(steps, "RETRY_DELAYS_S", [0.0, 0.0])
    calls = []

    @step("work", "work on {volume}")
    def work(volume: str) -> str:
        calls.append(volume)
        if len(calls) <= failures:
            raise error
        return volume

    @flow
    def one() -> str:
        return work("alpha")

    state = one(return_state=True)

    assert len(calls) == runs
    assert state.is_completed() is ends_well
    assert [(run.name, run.run_count) for run in task_runs(state)] == [("work on alpha", runs)]
    if not ends_well:
        assert state.result(raise_on_failure=False) is error
