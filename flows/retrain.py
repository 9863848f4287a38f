"""Labelled sections become a candidate; it passes the gate and is promoted, or is kept aside with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.steps import step
from segem.config.retrain import RetrainConfig
from segem.stages.training.retrain import Promotion, Retraining, judge, learn, open_retraining, prepare
from segem.stages.training.train import TrainResult


@step("prepare", "prepare {job.config.out}")
def prepare_step(job: Retraining) -> None:
    """Ingest every volume, and refuse before the training what would be refused after it."""
    prepare(job)


@step("train", "train {job.config.out}")
def train_step(job: Retraining) -> TrainResult:
    """Train the candidate; a training that was killed goes on from its checkpoint."""
    return learn(job)


@step("gate", "gate {job.config.out}")
def gate_step(job: Retraining, version: Path) -> Promotion:
    """Judge the candidate beside the model in use."""
    return judge(job, version)


@flow(name="retrain", flow_run_name="retrain {config.out}")
def retrain(
    manifest: Path,
    config: RetrainConfig,
    workspace: Path = Path("workspace"),
    data_root: Path | None = None,
) -> State[Promotion]:
    """Train a model on labelled sections, and put it in use if it does no harm.

    A candidate that the gate refuses is no failure of the flow: it then ends in a state of its own, KeptAside, with the
    reason. The same parameters go on where an earlier attempt was killed.

    Parameters
    ----------
    manifest : Path
        The YAML file; its labelled volumes are learned, and their test sections judged.
    config : RetrainConfig
        Name of the model, budget, model to go on from, model to beat.
    workspace : Path
        Root of the workspace.
    data_root : Path, optional
        Folder that relative sources count from; the manifest's own when absent.

    Raises
    ------
    SegemError
        When nothing could start, the training failed, or nothing could be judged.
    """
    job = open_retraining(manifest, config, workspace, data_root)
    prepare_step(job)
    candidate = train_step(job)
    decided = gate_step(job, candidate.path)
    publish(decided)
    name = "Completed" if decided.promoted else "KeptAside"
    return Completed(name=name, message=_said(decided), data=decided)


def publish(decided: Promotion) -> None:
    """Put the judged volumes with their intervals on the page of the flow run."""
    rows = [_row(volume.model_dump()) for volume in decided.judged]
    create_table_artifact(rows, key="judged-volumes", description=_said(decided))


def _said(decided: Promotion) -> str:
    if decided.promoted:
        return f"{decided.name} means {decided.version} now{f', by force: {decided.reason}' if decided.forced else ''}"
    return f"{decided.name}: {decided.version} is kept aside: {decided.reason}"


def _row(volume: dict[str, Any]) -> dict[str, Any]:
    first, stop = volume["sections"]
    return {
        "volume": volume["volume"],
        "sections": f"{first} to {stop - 1}",
        "blocks": volume["blocks"],
        "IoU in use": f"{volume['iou_against']:.4f}",
        "IoU of the new model": f"{volume['iou_candidate']:.4f}",
        "difference": f"{volume['difference']:+.4f}",
        "interval": f"{volume['low']:+.4f} to {volume['high']:+.4f}",
        "remarks": volume["harm"] or "passed",
    }
