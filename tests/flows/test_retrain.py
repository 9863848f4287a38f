"""What the flow that makes a better model promises: order, its own state when kept aside, going on, an exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from typer.testing import CliRunner

from flows.retrain import retrain
from segem.cli import app
from segem.config import GateConfig, SynthConfig, TrainConfig
from segem.config.retrain import RetrainConfig
from segem.errors import ConfigError, WorkspaceError
from segem.records.promotion import Promotion
from segem.stages.volumes.synth import synth
from tests.flows.test_flows import artifacts, task_runs

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
