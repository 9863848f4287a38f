"""The record of a run, ``run.json``: what each step of each volume was asked for, how it went and what it found."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import Field, JsonValue

import segem
from segem.config import Config, ReviewGoal
from segem.config.baseline import BaselineMethod
from segem.geometry import ZYX
from segem.records.card import FittedOn, HeldOutScore, TrainedOn
from segem.records.reference import Reference
from segem.records.seams import Recomputed

SCHEMA: Literal[2] = 2
"""Increased whenever an older record could be misread."""


class ModelRecord(Config):
    """Which weights were used."""

    name: str
    digest: str


class TilingRecord(Config):
    """How tiles were laid, as in `segem.plan.Tiling`."""

    mode: Literal["crop", "gaussian", "hann"]
    core_px: tuple[int, int]
    halo: ZYX
    stride_px: int
    step_px: tuple[int, int]


class PhaseRecord(Config):
    """One sweep of a step over the blocks of a volume; enough to plan the same blocks again."""

    name: str
    layers: tuple[str, ...]
    """What it writes; nothing where it only collects values."""
    write_block: ZYX
    tiling: TilingRecord


class StepFacts(Config):
    """What is known of every step of block work."""

    same_making: ClassVar[tuple[str, ...]] = ("software", "code")
    """The facts that must be the same for all blocks of one result."""

    blocks: int
    computed: int = 0
    skipped: int = 0
    """Blocks that were finished already."""
    overhead: float
    """Voxels computed for each voxel written."""
    code: str
    """sha256 of the source code that computes and of the versions it computes with."""
    software: dict[str, str] = {}
    """Those versions, by the name of the distribution."""
    memory: int | None = None
    """Bytes that one process was allowed, where --memory set them: they decide the size of tiles."""
    membrane_fraction: float | None = None
    """Share of the tissue that is membrane; None until the mask is whole."""
    outside_fraction: float = 0.0
    """Share of the volume that is no tissue, such as padding."""
    warnings: tuple[str, ...] = ()


class BaselineFacts(StepFacts):
    """What a method without labels found."""

    step: Literal["baseline"] = "baseline"
    method: BaselineMethod
    dark: float | None = None
    bright: float | None = None
    """Mean intensity of the membrane cluster and of the others; None for methods that form no clusters."""
    threshold: float | None = None
    """What is darker counts as membrane; None for methods that look at more than one voxel's intensity."""


class Int8Facts(Config):
    """How a sample of the volume came out in 8 bits."""

    disagreement: float
    """Share of the sampled voxels whose mask differs from that of float32."""
    used: bool
    """False where that was too much, and float32 was computed instead."""


class SegmentFacts(StepFacts):
    """How a model segmented a volume."""

    # What a block depends on that neither the settings nor the code tell: found when the step was prepared.
    same_making: ClassVar[tuple[str, ...]] = (*StepFacts.same_making, "threshold", "runtime", "resampled")

    step: Literal["segment"] = "segment"
    threshold: float
    merge_below: float | None = None
    """What the model's card says of cells, for the step that divides the probability into them."""
    runtime: str
    """What evaluated the net."""
    resampled: tuple[int, int] = (1, 1)
    """So many pixels the net saw for so many of the volume, along y and x."""
    sizes: tuple[tuple[int, int], ...] = ()
    """The same for each of several sizes at which the net saw the volume; the probabilities were averaged."""
    trained_on: tuple[TrainedOn, ...] = ()
    calibrated_on: tuple[FittedOn, ...] = ()
    """Where a later calibration of the model was fitted."""
    held_out: tuple[HeldOutScore, ...] = ()
    """Scores on the card of the model."""
    reference: Reference | None = None
    """What the model's estimates without truth were fitted on."""
    int8: Int8Facts | None = None
    recomputed: Recomputed | None = None
    """Places of the probability, computed anew once all of it was written; None until then."""


class CrfFacts(StepFacts):
    """How a probability was refined."""

    same_making: ClassVar[tuple[str, ...]] = (*StepFacts.same_making, "threshold", "operating_point", "probability")

    step: Literal["crf"] = "crf"
    threshold: float
    operating_point: float
    """Probability before the CRF that counted as undecided."""
    refined_from: str
    """The run whose probability was refined."""
    probability: str
    """sha256 of that probability, block by block."""
    trained_on: tuple[TrainedOn, ...] = ()
    calibrated_on: tuple[FittedOn, ...] = ()
    int8: Int8Facts | None = None
    """Of the model behind that probability, as are `trained_on` and `calibrated_on`."""
    recomputed: Recomputed | None = None
    """The same of the probability that was refined."""


class CellsFacts(StepFacts):
    """How the probability of a run was divided into cells; the share of membrane is that of the closed mask."""

    same_making: ClassVar[tuple[str, ...]] = (*StepFacts.same_making, "threshold", "merge_below", "probability")

    step: Literal["cells"] = "cells"
    threshold: float
    """Of the mask that was closed."""
    merge_below: float
    """Mean probability of a border below which the two sides are one cell."""
    probability: str
    """sha256 of the probability that was divided, block by block."""


# Told apart by `step` when they are read back, so that each keeps its own types.
Facts = Annotated[BaselineFacts | SegmentFacts | CrfFacts | CellsFacts, Field(discriminator="step")]
F = TypeVar("F", BaselineFacts, SegmentFacts, CrfFacts, CellsFacts)
"""The facts of one step; a new step adds its own here and above."""


RESULTS = {"segment": "segmentation", "crf": "refined segmentation", "cells": "division into cells"}
"""What users call the outcome of a step, where that is not the name of the step."""
AFTERWARDS = ("cells",)
"""Steps that no campaign takes: what they have made of a probability counts for as long as it is the same."""


class StepRecord(Config):
    """How one step of one volume went, and what it was made of."""

    step: str
    """Its name, by which `segem verify` and `--repair` find it."""
    state: Literal["waiting", "running", "complete", "failed"]
    """``waiting``: made by an earlier attempt, and not reached by the one that is under way."""
    reason: str | None = None
    """Why it failed."""
    source_digest: str | None = None
    """sha256 of the volume's voxels, and of its window; if they have changed since, the outcome no longer counts."""
    model: ModelRecord | None = None
    segem_version: str = segem.__version__
    # Plain JSON and not a config class, so that adding or removing a setting does not make old records unreadable.
    config: dict[str, JsonValue] = {}
    layers: tuple[str, ...]
    """What it writes in the end."""
    phases: tuple[PhaseRecord, ...] = ()
    facts: Facts
    changed: str = ""
    """When the state was reached, ISO 8601 in UTC."""

    @property
    def result(self) -> str:
        """What users call the outcome of the step."""
        return RESULTS.get(self.step, self.step)


class VolumeRecord(Config):
    """The steps of one volume in a run by name; a step that never started is absent."""

    steps: dict[str, StepRecord] = {}
    failure: str | None = None
    """Why a volume never reached its steps: its ingest failed."""

    @property
    def baseline(self) -> StepRecord | None:
        """The step that wrote the baseline's mask."""
        return self.writer_of("baseline")

    @property
    def membrane(self) -> StepRecord | None:
        """The step that wrote probability and mask: a segmentation, or the CRF that refined one."""
        return self.writer_of("membrane")

    @property
    def cells(self) -> StepRecord | None:
        """The step that divided the probability into cells."""
        return self.writer_of("cells")

    @property
    def baseline_facts(self) -> BaselineFacts | None:
        """What is known of the baseline."""
        step = self.baseline
        return step.facts if step is not None and isinstance(step.facts, BaselineFacts) else None

    @property
    def membrane_facts(self) -> SegmentFacts | CrfFacts | None:
        """What is known of probability and mask."""
        step = self.membrane
        return step.facts if step is not None and isinstance(step.facts, SegmentFacts | CrfFacts) else None

    def writer_of(self, layer: str) -> StepRecord | None:
        """Return the step that writes a layer; never more than one does."""
        return next((step for step in self.steps.values() if layer in step.layers), None)


class RunRecord(Config):
    """The content of ``run.json``."""

    schema_version: Literal[2] = SCHEMA
    run: str
    created: str
    """ISO 8601 in UTC."""
    segem_version: str
    environment: dict[str, str]
    model: ModelRecord | None = None
    volumes: dict[str, VolumeRecord] = {}
    accept: tuple[str, ...] = ()
    """Rules of the manifest by which its volumes are accepted."""
    review: ReviewGoal | None = None
    """How much of it people are to review, by the manifest."""
