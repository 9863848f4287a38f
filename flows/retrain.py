"""Labelled sections become a candidate; it passes the gate and is promoted, or is kept aside with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.pages import show_table
from flows.report import publish as publish_report
from flows.report import report_step
from flows.segment import segment_step
from flows.steps import step
from segem.config import ExecutionConfig
from segem.config.retrain import RetrainConfig
from segem.progress import tell
from segem.records.promotion import Judgement, ScorePair
from segem.stages.training.again import plan_again
from segem.stages.training.retrain import (
    PreparedRetraining,
    Promotion,
    Retraining,
    judge_candidate,
    open_retraining,
    prepare_retraining,
    train_candidate,
)
from segem.stages.training.train import TrainResult

RUN_NAME = "retrain {config.out}"


@step("prepare", "prepare {opened.config.out}")
def prepare_step(opened: Retraining) -> PreparedRetraining:
    """Ingest every volume, and refuse before the training what would be refused after it."""
    return prepare_retraining(opened)


@step("train", "train {ready.opened.config.out}")
def train_step(ready: PreparedRetraining) -> TrainResult:
    """Train the candidate; a training that was killed is resumed from its checkpoint."""
    return train_candidate(ready)


@step("gate", "gate {ready.opened.config.out}")
def gate_step(ready: PreparedRetraining, version: Path) -> Promotion:
    """Judge the candidate beside the incumbent."""
    return judge_candidate(ready, version)


@flow(name="retrain", flow_run_name=RUN_NAME)
def retrain(
    manifest: Path | None,
    config: RetrainConfig,
    workspace: Path = Path("workspace"),
    data_root: Path | None = None,
) -> State[Promotion]:
    """Train a model on labelled sections, and put it in use if it does no harm.

    A candidate that the gate refuses is no failure of the flow: it then ends in a state of its own, KeptAside, with the
    reason. The same parameters resume an earlier attempt that was killed. A model that has learned from a review, and
    is put in use, segments the volumes of that run again.

    Parameters
    ----------
    manifest : Path or None
        The YAML file: the model is trained on its labelled volumes and judged on their test sections. None where it
        learns from a review alone.
    config : RetrainConfig
        Name of the model, budget, base model, incumbent.
    workspace : Path
        Root of the workspace.
    data_root : Path, optional
        Folder that relative sources count from; the manifest's own when absent.

    Raises
    ------
    SegemError
        When nothing could start, the training failed, or nothing could be judged.
    """
    return run_steps(open_retraining(manifest, config, workspace, data_root))


def retrain_opened(opened: Retraining) -> Promotion:
    """Run the same flow for a retraining that is open already, so that nothing is looked up twice.

    To the server it is the flow of the same name with the same parameters, so its page is that of any retraining.
    """

    @flow(name=retrain.name, flow_run_name=RUN_NAME, description=retrain.description)
    def retrain_here(
        manifest: Path | None,  # noqa: ARG001 - Prefect keeps them as the parameters of the run
        config: RetrainConfig,  # noqa: ARG001
        workspace: Path,  # noqa: ARG001
        data_root: Path | None,  # noqa: ARG001
    ) -> State[Promotion]:
        return run_steps(opened)

    return cast("Promotion", retrain_here(opened.source, opened.config, opened.workspace.root, opened.data_root))


def run_steps(opened: Retraining) -> State[Promotion]:
    """Prepare, train and judge, each as a task; the volumes are ingested by the first, and handed on."""
    ready = prepare_step(opened)
    candidate = train_step(ready)
    decided = gate_step(ready, candidate.path)
    publish(decided)
    _segment_again(ready, decided)
    name = "Completed" if decided.promoted else "KeptAside"
    return Completed(name=name, message=_describe(decided), data=decided)


def _segment_again(ready: PreparedRetraining, decided: Promotion) -> None:
    """Segment the volumes that were reviewed with the model that has learned from them, and report on it."""
    opened = ready.opened
    again = None if opened.config.only_train else plan_again(decided, ready.job.reviewed, opened.workspace)
    if again is None:
        return
    # Said first: if this fails, the error is all that is shown, and the same command would train a model once more.
    tell(
        f"{_describe(decided)}; {opened.config.from_reviews} is segmented again with it (after an interruption, "
        f"`segem segment VOLUME --run {again.run} --model {decided.name}` goes on)"
    )
    execution = ExecutionConfig(device=opened.config.device)
    for volume, config in again.volumes.items():
        segment_step(volume, again.run, config, execution, opened.workspace.root)
    pages = report_step(again.run, opened.workspace.root)
    publish_report(again.run, pages)
    tell(f"{opened.config.from_reviews} is segmented again as {again.run}; what the review has gained: {pages.index}")


def publish(decided: Promotion) -> None:
    """Put the judged volumes with their intervals on the page of the flow run."""
    rows = [_row(volume) for volume in decided.judged]
    show_table("judged-volumes", rows, _describe(decided))


def _describe(decided: Promotion) -> str:
    if decided.promoted:
        forced = f", by force: {decided.reason}" if decided.forced else ""
        return f"{decided.name} now refers to version {decided.version}{forced}"
    return f"{decided.name}: {decided.version} is kept aside: {decided.reason}"


def _row(volume: Judgement) -> dict[str, object]:
    first, stop = volume.sections
    return {
        "volume": volume.volume,
        "sections": f"{first} to {stop - 1}",
        "blocks": volume.iou_interval.blocks,
        "IoU, incumbent": f"{volume.iou.incumbent:.4f}",
        "IoU, candidate": f"{volume.iou.candidate:.4f}",
        "difference": f"{volume.iou.difference:+.4f}",
        "interval": f"{volume.iou_interval.low:+.4f} to {volume.iou_interval.high:+.4f}",
        "V_rand": _change(volume.v_rand),
        "V_info": _change(volume.v_info),
        "remarks": volume.harm or "passed",
    }


def _change(pair: ScorePair | None) -> str:
    return "not measured: no cells" if pair is None else f"{pair.incumbent:.4f} to {pair.candidate:.4f}"
