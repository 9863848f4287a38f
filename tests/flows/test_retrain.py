"""What the flow that makes a better model promises: order, its own state when kept aside, going on, an exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from typer.testing import CliRunner

import flows.retrain
from flows.retrain import retrain, retrain_opened
from segem.cli import app
from segem.config import GateConfig, IngestConfig, SynthConfig, TrainConfig
from segem.config.retrain import RetrainConfig
from segem.errors import ConfigError, WorkspaceError
from segem.io.volume import Volume
from segem.kernels.synth import synthesize
from segem.records.promotion import Promotion
from segem.records.review import Place
from segem.stages.training.retrain import Retraining, open_retraining, prepare_retraining
from segem.stages.volumes.ingest import fingerprint_source
from segem.stages.volumes.synth import synth
from tests.fabricate import add_baseline, add_volume, decide, new_workspace
from tests.flows.test_flows import artifacts, task_runs

VOLUME_OPEN = Volume.open

pytestmark = pytest.mark.usefixtures("prefect_server")

LEARNED = TrainConfig(architecture={"features": 2, "depth": 2}, steps=2, batch=1, crop_px=64)
CONFIG = RetrainConfig(out="mine", train=LEARNED, gate=GateConfig(block_px=16, resamples=1000), device="cpu")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a manifest of three sections, the last of which is for the test."""
    synth(tmp_path / "tissue", SynthConfig(shape=(3, 64, 64), seed=1))
    volume: dict[str, Any] = {"name": "tissue", "source": "tissue/raw.tif", "voxel_nm": [50, 4, 4]}
    volume["labels"] = {"source": "tissue/truth.tif", "membrane": "nonzero"}
    volume["split"] = {"train": [0, 1], "validation": [1, 2], "test": [2, 3]}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({"name": "m", "volumes": [volume]}), encoding="utf-8")
    return tmp_path / "m.yaml"


def test_a_candidate_that_is_refused_ends_in_a_state_of_its_own(source: Path, tmp_path: Path) -> None:
    state = retrain(source, CONFIG, tmp_path / "w", return_state=True)

    assert state.is_completed()
    assert state.name == "KeptAside"
    assert "is kept aside: tissue: not surely better than K-means" in str(state.message)
    assert [run.name for run in task_runs(state)] == ["prepare mine", "train mine", "gate mine"]
    (row,) = json.loads(artifacts(state)["judged-volumes"])
    decided = cast(Promotion, state.result())
    assert not decided.promoted
    (judged,) = decided.judged
    assert row["volume"] == "tissue"
    assert row["sections"] == "2 to 2"
    assert row["interval"] == f"{judged.iou_interval.low:+.4f} to {judged.iou_interval.high:+.4f}"
    assert row["remarks"] == judged.harm

    forced = retrain(source, CONFIG.model_copy(update={"force": True}), tmp_path / "w", return_state=True)
    assert forced.name == "Completed"
    assert "by force" in str(forced.message)
    again = retrain(source, CONFIG.model_copy(update={"force": True}), tmp_path / "w")
    assert cast(Promotion, again).promoted


def test_what_was_trained_is_judged_when_the_flow_is_repeated(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise WorkspaceError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr("flows.retrain.gate_step", fail)
        assert retrain(source, CONFIG, tmp_path / "w", return_state=True).is_failed()
    (version,) = (path.parent for path in (tmp_path / "w/models/mine").glob("*/model.json"))
    assert cast(Promotion, retrain(source, CONFIG, tmp_path / "w")).version == version.name


@pytest.mark.parametrize("opened_before", [False, True], ids=["from a deployment", "by the launcher"])
def test_a_job_is_opened_once_and_each_volume_is_looked_up_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened_before: bool
) -> None:
    prepare_retraining(open_retraining(source, CONFIG, tmp_path / "w"))  # ingested: what is counted is looking it up
    fingerprinted, opened, jobs = list[str](), list[str](), list[Any]()

    def fingerprint(config: IngestConfig) -> str:
        fingerprinted.append(config.name)
        return fingerprint_source(config)

    def open_volume(path: Path) -> Volume:
        opened.append(path.name)
        return VOLUME_OPEN(path)

    def open_job(*args: Any) -> Retraining:
        jobs.append(args)
        return open_retraining(*args)

    monkeypatch.setattr("segem.stages.volumes.ingest.fingerprint_source", fingerprint)
    monkeypatch.setattr("segem.stages.training.labelled.Volume.open", open_volume)
    monkeypatch.setattr("flows.retrain.open_retraining", open_job)
    if opened_before:
        decided = retrain_opened(open_job(source, CONFIG, tmp_path / "w"))
    else:
        decided = cast(Promotion, retrain(source, CONFIG, tmp_path / "w"))
    assert decided.name == "mine"
    assert len(jobs) == 1
    assert fingerprinted == ["tissue"]
    assert opened == ["tissue.ome.zarr"] * 2, "by ingest, to see whether it is whole, and to be used"


def test_a_retraining_of_the_launcher_looks_like_any_other_to_the_server(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = list[Any]()
    publish = flows.retrain.publish

    def remember(decided: Promotion) -> None:
        states.append(flow_run.get_id())
        publish(decided)

    monkeypatch.setattr("flows.retrain.publish", remember)
    retrain(source, CONFIG, tmp_path / "w")
    retrain_opened(open_retraining(source, CONFIG, tmp_path / "w"))
    with get_client(sync_client=True) as client:
        runs = [client.read_flow_run(UUID(str(one))) for one in states]
    assert len({run.flow_id for run in runs}) == 1
    assert [run.name for run in runs] == ["retrain mine"] * 2
    assert runs[0].parameters == runs[1].parameters
    assert RetrainConfig.model_validate(runs[1].parameters["config"]) == CONFIG


def test_nothing_is_trained_where_nothing_can_be_judged(source: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(source.read_text())
    values["volumes"][0]["split"] = {"train": [0, 1], "validation": [1, 2]}
    source.write_text(yaml.safe_dump(values), encoding="utf-8")
    state = retrain(source, CONFIG, tmp_path / "w", return_state=True)
    assert isinstance(state.result(raise_on_failure=False), ConfigError)
    assert task_runs(state) == []


def test_the_command_says_why_a_model_is_kept_aside_and_ends_with_1(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"train": LEARNED, "gate": CONFIG.gate}
    monkeypatch.setattr(
        "segem.cli.options.parse",
        lambda kind, values, **_: kind.model_validate(values | small if kind is RetrainConfig else values),
    )
    call = ["retrain", str(source), "--out", "mine", "--device", "cpu", "--workspace", str(tmp_path / "w")]
    refused = CliRunner().invoke(app, call)
    assert refused.exit_code == 1
    assert "mine is kept aside, tissue: not surely better than K-means" in refused.output
    forced = CliRunner().invoke(app, [*call, "--force", "--json"])
    assert forced.exit_code == 0
    assert json.loads(forced.stdout[forced.stdout.index("{") :])["forced"]


def test_what_was_reviewed_is_segmented_again_and_the_report_says_what_the_review_has_gained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space, em = new_workspace(tmp_path / "w"), synthesize(SynthConfig(shape=(5, 128, 128), seed=1))
    add_volume(space, "cortex", em.image)
    add_baseline(space, "monday", "cortex", em.truth)
    for z in range(5):
        decide(space, "monday", Place(volume="cortex", z=z, y=0, x=0, height=128, width=128), em.truth, seconds=60)
    gate = GateConfig(block_px=32, resamples=1000)
    # Of another seed, or the two would be the same model.
    for seed in (0, 1):
        train = LEARNED.model_copy(update={"seed": seed})
        config = RetrainConfig(out="mine", from_reviews="monday", train=train, gate=gate, device="cpu", force=True)
        config = config.model_copy(update={"only_train": seed == 0})
        decided = cast(Promotion, retrain(None, config, space.root))

    # Before that is begun, what was decided is told, and how to go on if it fails.
    told, decision = capsys.readouterr().err, f"mine now refers to version {decided.version}"
    assert f"`segem segment VOLUME --run monday-{decided.version} --model mine` goes on" in told
    assert told.index(decision) < told.index("monday is segmented again as")
    (again,) = [run for run in space.runs() if run != "monday"]
    assert again == f"monday-{decided.version}"
    page = (space.report(again) / "index.html").read_text(encoding="utf-8")
    assert "What the review has gained" in page
    assert "mine comes from a review of 5 regions that 1 person accepted or fixed in monday, in 5 minutes" in page
    (judged,) = decided.judged
    assert f"<td>{judged.iou.difference / 5:+.4f}</td>" in page
