"""The steps of block work by name: what `segem verify --repair` looks up in the record of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from segem.config import BaselineConfig, CellsConfig, Config, ExecutionConfig, RefineConfig, SegmentConfig, parse
from segem.io.workspace import Workspace
from segem.records.run import StepRecord
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.cells import find_cells_of_run
from segem.stages.segmentation.crf import refine_volume
from segem.stages.segmentation.segment import segment


@dataclass(frozen=True)
class StepKind:
    """How a step is carried out again."""

    config: type[Config]
    """What its settings are."""
    run: Callable[..., object]
    """Takes volume, run, settings, execution and workspace, and how the result was made."""


STEPS = {
    "baseline": StepKind(BaselineConfig, baseline),
    "segment": StepKind(SegmentConfig, segment),
    "crf": StepKind(RefineConfig, refine_volume),
    "cells": StepKind(CellsConfig, find_cells_of_run),
}
"""In an order in which each finds what it is made of."""


def repeat_step(volume: str, run: str, step: StepRecord, execution: ExecutionConfig, workspace: Workspace) -> None:
    """Repeat a step of a run with the settings it was made with; what is whole is not touched.

    Raises
    ------
    ConfigError
        When a block would be made in another way than those that are whole.
    SegemError
        As the step itself does.
    """
    kind = STEPS[step.step]
    config = parse(kind.config, dict(step.config), where=run)
    # Memory decides the size of tiles, so a repair plans with the memory that the run had.
    as_then = execution.model_copy(update={"memory": step.facts.memory})
    kind.run(volume, run, config, execution=as_then, workspace=workspace, like=step)
