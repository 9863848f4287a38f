"""Scores every volume of a run against its truth, section by section, and says plainly what was not measured."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from segem.config.baseline import BASELINE_NAMES, BaselineMethod
from segem.errors import SegemError
from segem.io.layers import Layers, read_section
from segem.io.run import failure_of, fault_of, load_run, source_digest
from segem.io.seen import merged, seen_again
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.metrics.calibration import CalibrationBins
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.seam import SeamSums
from segem.kernels.metrics.segmentation import Measure, SegmentationSums, StackScore
from segem.kernels.truth import is_known
from segem.progress import track
from segem.records.run import CrfFacts, ModelRecord, RunRecord, SegmentFacts, StepRecord
from segem.stages.segmentation.verify import plan_of

NOT_MEASURED = "not measured: no ground truth"
VISIBLE_SEAM = 1.5

# Flooding takes some 100 bytes a pixel: this bounds what all threads hold at once.
_PIXELS_AT_ONCE = 16_777_216
_MOST_THREADS = 4


class Record(BaseModel):
    """Base of what evaluation hands out: frozen, and plain JSON on demand."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LayerScores(Record):
    """Scores of one membrane mask over all sections of a volume; IoU, precision and recall are pooled over voxels."""

    iou: float
    precision: float
    recall: float
    rand: StackScore | None
    """V_rand; None where the truth holds no cell at all."""
    information: StackScore | None
    """V_info; None where the truth holds no cell at all."""

    @property
    def v_rand(self) -> float | None:
        """The value of V_rand alone."""
        return self.rand.value if self.rand else None

    @property
    def v_info(self) -> float | None:
        """The value of V_info alone."""
        return self.information.value if self.information else None


class SectionScores(Record):
    """Scores of one section; V_rand and V_info at the threshold that is best for the whole stack."""

    section: int
    iou_kmeans: float | None
    iou_model: float | None
    precision: float | None
    recall: float | None
    v_rand: float | None
    v_info: float | None


class ReliabilityBin(Record):
    """The voxels whose probability lies in one of 15 bins of equal width, from 0 to 1."""

    voxels: int
    probability: float
    """Mean of what the model says."""
    membrane: float
    """Share of them that is membrane."""


class VolumeScores(Record):
    """All that is known of one volume of a run."""

    name: str
    state: Literal["complete", "failed"]
    reason: str | None = None
    """Why the volume failed."""
    note: str | None = None
    """Why a complete volume carries no scores."""
    sections: int | None = None
    shape: tuple[int, int, int] | None = None
    dtype: str | None = None
    voxel_nm: tuple[float, float, float] | None = None
    weights: ModelRecord | None = None
    """What made the model's mask."""
    threshold: float | None = None
    """Membrane probability from which the model's mask says membrane."""
    segmented: bool = False
    """Whether there is a model's mask."""
    clustered: bool = False
    """Whether there is a baseline's mask."""
    method: BaselineMethod = "kmeans"
    """What found the baseline's mask, which is called ``kmeans`` here and on disk whatever found it."""
    model: LayerScores | None = None
    kmeans: LayerScores | None = None
    per_section: tuple[SectionScores, ...] = ()
    ece: float | None = None
    """Expected calibration error of the probability."""
    reliability: tuple[ReliabilityBin, ...] = ()
    """What the error is made of; bins without voxels are left out."""
    known_fraction: float | None = None
    """Share of the voxels whose truth is known; scores are of them alone. None without truth."""
    seam_ratio: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def baseline(self) -> str:
        """What people call the method of the baseline."""
        return BASELINE_NAMES[self.method]

    @property
    def measured(self) -> bool:
        """Whether the volume could be compared with truth."""
        return self.model is not None or self.kmeans is not None


class Evaluation(Record):
    """The scores of a run, and what made them."""

    run: str
    created: str
    segem_version: str
    environment: dict[str, str]
    model: ModelRecord | None
    volumes: tuple[VolumeScores, ...]

    def failed(self) -> dict[str, str]:
        """Return the volumes that did not finish, with the reason."""
        return {volume.name: volume.reason or "unknown" for volume in self.volumes if volume.state == "failed"}


def evaluate(run: str, workspace: Workspace) -> Evaluation:
    """Score every volume of a run.

    IoU is pooled over all voxels of a volume; V_rand and V_info are means over sections at the one threshold that suits
    the volume best. Memory does not grow with the number of sections.

    Parameters
    ----------
    run : str
        Name of the run.
    workspace : Workspace
        Where it lives.

    Returns
    -------
    Evaluation
        A volume that did not finish is ``failed``, with its reason and no score; one without truth is ``complete``,
        with a note and no score.

    Raises
    ------
    WorkspaceError
        When there is no such run, or its record is damaged.
    """
    record = load_run(workspace, run)
    volumes = tuple(_volume_scores(record, name, workspace) for name in record.volumes)
    return Evaluation(
        run=run,
        created=record.created,
        segem_version=record.segem_version,
        environment=record.environment,
        model=record.model,
        volumes=volumes,
    )


@dataclass(frozen=True)
class _MaskTally:
    """What the comparison of one mask with truth adds up to."""

    confusion: Confusion = field(default_factory=Confusion)
    cells: SegmentationSums = field(default_factory=SegmentationSums.nothing)

    def __add__(self, other: _MaskTally) -> _MaskTally:
        return _MaskTally(self.confusion + other.confusion, self.cells + other.cells)

    def scores(self) -> LayerScores:
        return LayerScores(
            iou=self.confusion.iou,
            precision=self.confusion.precision,
            recall=self.confusion.recall,
            rand=self.cells.best("rand"),
            information=self.cells.best("information"),
        )


@dataclass(frozen=True)
class _Tally:
    """What one section, or a sum of sections, adds to the scores."""

    model: _MaskTally = field(default_factory=_MaskTally)
    kmeans: _MaskTally = field(default_factory=_MaskTally)
    seams: SeamSums = field(default_factory=SeamSums)
    bins: CalibrationBins = field(default_factory=CalibrationBins)
    known: int = 0
    """Voxels whose truth is known."""

    def __add__(self, other: _Tally) -> _Tally:
        return _Tally(
            self.model + other.model,
            self.kmeans + other.kmeans,
            self.seams + other.seams,
            self.bins + other.bins,
            self.known + other.known,
        )


def _volume_scores(record: RunRecord, name: str, workspace: Workspace) -> VolumeScores:
    try:
        reason = failure_of(record, name, workspace)
        if reason is None:
            return _scores_of_finished(record, name, workspace)
    except SegemError as error:
        reason = record.volumes[name].failure or str(error)
    return VolumeScores(name=name, state="failed", reason=reason)


def _scores_of_finished(record: RunRecord, name: str, workspace: Workspace) -> VolumeScores:
    run, volume = record.run, record.volumes[name]
    digest = source_digest(workspace, name)
    missing = {
        "baseline": fault_of(volume.baseline, "baseline", digest),
        "model mask": fault_of(volume.membrane, "segmentation", digest),
    }
    segmented, clustered = missing["model mask"] is None, missing["baseline"] is None
    layers = Layers.open(run, name, workspace, segmented=segmented, clustered=clustered)
    source = layers.source
    rows, columns = _seams(volume.membrane, workspace, run, name) if segmented else ([], [])
    tallies = []
    with track(f"evaluate {name}", source.shape[0], "section") as advance:
        for tally in _tallies(layers, rows, columns):
            tallies.append(tally)
            advance(1)
    total = reduce(_Tally.__add__, tallies, _Tally())
    known = None if layers.truth is None else total.known / math.prod(source.shape)
    measured = bool(known)
    model = total.model.scores() if measured and segmented else None
    kmeans = total.kmeans.scores() if measured and clustered else None
    facts = volume.membrane_facts if segmented else None
    return VolumeScores(
        name=name,
        state="complete",
        note=None if measured else NOT_MEASURED,
        sections=source.shape[0],
        shape=source.shape,
        dtype=str(source.dtype),
        voxel_nm=source.voxel_size.zyx,
        weights=volume.membrane.model if volume.membrane is not None and segmented else None,
        threshold=facts.threshold if facts else None,
        segmented=segmented,
        clustered=clustered,
        method=volume.baseline_facts.method if volume.baseline_facts else "kmeans",
        model=model,
        kmeans=kmeans,
        per_section=_section_scores(tallies, model, kmeans) if measured else (),
        ece=total.bins.error if model else None,
        reliability=tuple(_reliability(total.bins)),
        known_fraction=known,
        seam_ratio=total.seams.ratio,
        warnings=tuple(_warnings(source, missing, facts, total.seams.ratio, known)),
    )


def _tallies(layers: Layers, rows: list[int], columns: list[int]) -> Iterator[_Tally]:
    sections, height, width = layers.source.shape
    threads = max(1, min(_MOST_THREADS, os.cpu_count() or 1, _PIXELS_AT_ONCE // (height * width)))
    # Threads are enough: the flooding, which takes most of the time, runs outside the interpreter lock.
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(partial(_tally, layers, rows, columns), range(sections))


def _tally(layers: Layers, rows: list[int], columns: list[int], z: int) -> _Tally:
    tally = _Tally()
    truth = None if layers.truth is None else read_section(layers.truth, z)
    if truth is not None:
        tally += _Tally(known=int(np.count_nonzero(is_known(truth))))
    if layers.probability is not None and layers.membrane is not None:
        probability = read_section(layers.probability, z)
        tally += _Tally(seams=SeamSums.count(probability, rows, columns))
        if truth is not None:
            mask = read_section(layers.membrane, z)
            scores = _MaskTally(Confusion.count(truth, mask), SegmentationSums.count(truth, probability))
            tally += _Tally(model=scores, bins=CalibrationBins.count(truth, probability / 255))
    if layers.baseline is not None and truth is not None:
        mask = read_section(layers.baseline, z)
        cells = SegmentationSums.count(truth, np.where(mask != 0, np.uint8(255), np.uint8(0)))
        tally += _Tally(kmeans=_MaskTally(Confusion.count(truth, mask), cells))
    return tally


def _section_scores(
    tallies: list[_Tally], model: LayerScores | None, kmeans: LayerScores | None
) -> tuple[SectionScores, ...]:
    return tuple(
        SectionScores(
            section=z,
            iou_kmeans=tally.kmeans.confusion.iou if kmeans and tally.known else None,
            iou_model=tally.model.confusion.iou if model and tally.known else None,
            precision=tally.model.confusion.precision if model and tally.known else None,
            recall=tally.model.confusion.recall if model and tally.known else None,
            v_rand=_at_same_threshold(tally.model.cells, "rand", model.rand if model else None),
            v_info=_at_same_threshold(tally.model.cells, "information", model.information if model else None),
        )
        for z, tally in enumerate(tallies)
    )


def _reliability(bins: CalibrationBins) -> Iterator[ReliabilityBin]:
    for voxels, promised, found in zip(bins.voxels, bins.promised, bins.found, strict=True):
        if voxels:
            yield ReliabilityBin(voxels=int(voxels), probability=promised / voxels, membrane=found / voxels)


def _at_same_threshold(cells: SegmentationSums, measure: Measure, stack: StackScore | None) -> float | None:
    score = cells.at(measure, stack.threshold) if stack is not None else None
    return score.value if score is not None else None


def _seams(segment: StepRecord | None, workspace: Workspace, run: str, volume: str) -> tuple[list[int], list[int]]:
    if segment is None:
        return [], []
    plan = plan_of(segment.phases[-1], Volume.open(workspace.result(run, volume)).shape)
    rows, columns = ([start for start, _ in plan.windows(axis)] for axis in (1, 2))
    return rows, columns


def _warnings(
    source: Volume,
    missing: dict[str, str | None],
    facts: SegmentFacts | CrfFacts | None,
    seam_ratio: float | None,
    known: float | None,
) -> Iterator[str]:
    noted = source.attributes
    yield from (str(warning) for warning in noted.get("warnings", []))
    if known is not None and known < 1:
        yield f"scores are of the {known:.1%} of the voxels whose truth is known"
    for what, reason in missing.items():
        if reason is not None:
            yield f"no {what}: {reason}"
    if facts is not None:
        yield from facts.warnings
    trained_on = [used.model_dump() for used in facts.trained_on] if facts is not None else []
    chose = "the threshold of the model, or of one it goes on from, was chosen"
    done_with: dict[Literal["train", "validation"], str] = {"train": "the model was trained", "validation": chose}
    for part, done in done_with.items():
        # A model may have done one without the other.
        seen = merged(each for used in trained_on for each in seen_again(used, part, noted))
        if seen:
            sections = " and ".join(f"{first} to {stop - 1}" for first, stop in seen)
            yield f"{done} on sections {sections} of this volume: scores there are no test"
    if isinstance(facts, CrfFacts):
        yield f"the probability is that of run {facts.refined_from}, refined by a CRF"
    coarse = facts.int8 if facts is not None else None
    if coarse is not None:
        share = f"8 bits change {coarse.disagreement:.2%} of the mask on sampled tiles"
        yield share if coarse.used else f"{share}, too many: computed in float32"
    if seam_ratio is not None and seam_ratio > VISIBLE_SEAM:
        yield f"tile borders may show: the probability changes {seam_ratio:.1f} times as fast across them as elsewhere"
