"""Computes again what a run has lost, by the settings it was made with, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from segem.config import BaselineConfig, ExecutionConfig, RefineConfig, SegmentConfig, parse
from segem.errors import ConfigError, SegemError, WorkspaceError
from segem.io.files import locked
from segem.io.ledger import blocks_digest
from segem.io.run import load_run, volume_lock
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.artefact import find_model
from segem.learn.engine import choose_device, compute_digest
from segem.learn.runtimes.choice import choose_runtime, runtime_identity
from segem.records.run import StageRecord, VolumeRecord
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.crf import refine_digest, refine_volume
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import Fault, Part, verify


@dataclass(frozen=True)
class Repair:
    """What was wrong with a run: what is whole again, and what is left."""

    repaired: tuple[Fault, ...]
    left: tuple[Fault, ...]


def repair(run: str, workspace: Workspace, execution: ExecutionConfig) -> Repair:
    """Find what is missing or damaged, compute exactly that again, and verify the outcome.

    Blocks, pyramids and the mask of the baseline are made by the settings in the run's record, and a stage that was
    stopped is taken up again. What is whole is not touched. A block is not made by another model or another version of
    the code than its neighbours: then the repair is refused, and so it is where the ingested voxels are damaged.

    Parameters
    ----------
    run : str
        Name of the run.
    workspace : Workspace
        Where it lives.
    execution : ExecutionConfig
        Device, engine, workers, memory.

    Returns
    -------
    Repair

    Raises
    ------
    WorkspaceError
        When there is no such run, or its record is damaged.
    """
    left = verify(run, workspace)
    repaired: list[Fault] = []
    refused: dict[str, str] = {}
    while names := list(dict.fromkeys(fault.volume for fault in left if fault.volume not in refused)):
        for name in names:
            try:
                _mend(run, name, {fault.part for fault in left if fault.volume == name}, workspace, execution)
            except SegemError as error:
                refused[name] = str(error)
        found = verify(run, workspace, volumes=names)
        repaired += [fault for fault in left if fault.volume in names and fault not in found]
        # What a look finds that was there before will not go away by doing the same again.
        stuck = {fault.volume for fault in found if fault in left}
        refused |= {name: "" for name in stuck if name not in refused}
        left = [fault for fault in left if fault.volume not in names] + found
    reasons = [Fault(name, f"not repaired: {reason}") for name, reason in refused.items() if reason]
    return Repair(tuple(repaired), tuple(left + reasons))


def _mend(run: str, name: str, parts: Iterable[Part], workspace: Workspace, execution: ExecutionConfig) -> None:
    entry, parts = load_run(workspace, run).volumes[name], set(parts)
    if "source" in parts:
        raise WorkspaceError(
            "the ingested voxels are damaged, so nothing can be made of them",
            where=name,
            fix=f"run `segem ingest` for {name} with --again first",
        )
    if "source pyramid" in parts:
        path = workspace.volume(name)
        with locked(path.with_name(f".{path.name}.lock")):
            source = Volume.open(path)
            for label in (None, *source.labels()):
                source.build_pyramid(label)
    if parts & {"result", "segment"} and entry.segment is not None:
        # Memory decides the size of tiles, and so does that of the run.
        as_then = execution.model_copy(update={"memory": entry.segment.facts.get("memory")})
        if "crf" in entry.segment.config:
            refining = parse(RefineConfig, entry.segment.config, where=run)
            now = {"code": refine_digest(), "probability": blocks_digest(workspace, refining.of, name)}
            _require_same(now, entry.segment.facts, refining.of)
            refine_volume(name, run, refining, as_then, workspace)
        else:
            config = parse(SegmentConfig, entry.segment.config, where=run)
            _require_same_making(entry.segment, config, workspace, execution)
            segment(name, run, config, as_then, workspace)
    if parts & {"result", "baseline"} and entry.baseline is not None:
        config_of_mask = parse(BaselineConfig, entry.baseline.config, where=run)
        baseline(name, run, config_of_mask, workspace)
    if "pyramid" in parts:
        with volume_lock(workspace, run, name):
            result = Volume.open(workspace.result(run, name))
            for label in _finished_layers(entry):
                result.build_pyramid(label)


def _finished_layers(entry: VolumeRecord) -> list[str | None]:
    layers: list[str | None] = []
    if entry.segment is not None and entry.segment.state == "complete":
        layers += [None, "membrane"]
    if entry.baseline is not None and entry.baseline.state == "complete":
        layers.append("kmeans")
    return layers


def _require_same_making(
    stage: StageRecord, config: SegmentConfig, workspace: Workspace, execution: ExecutionConfig
) -> None:
    """Raise if a block computed now would not be of a kind with those that are whole."""
    artefact, device = find_model(config.model, workspace), choose_device(execution.device)
    runtime = choose_runtime(config.runtime, device)
    now = {
        "model": artefact.digest,
        "threshold": config.threshold or artefact.card.threshold,
        "code": compute_digest(),
    }
    if runtime != "openvino-int8":
        # The 8-bit model is kept with the run, and is part of the identity of each block.
        now["runtime"] = runtime_identity(runtime, device)
    _require_same(now, stage.facts | {"model": stage.model.digest if stage.model else None}, config.model)


def _require_same(now: dict[str, Any], then: dict[str, Any], origin: str) -> None:
    for key, value in now.items():
        if value != then.get(key):
            again = "run the same command again" + (" with --replace" if key == "model" else "")
            raise ConfigError(
                f"the {key} of the run is not at hand any more, and blocks of two kinds must not be mixed",
                where=origin if key in ("model", "probability") else None,
                expected=then.get(key),
                found=value,
                fix=f"bring it back, or {again} to compute every block anew",
            )
