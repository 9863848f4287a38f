"""The scores of a run, ``report.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segem.config.baseline import BASELINE_NAMES, BaselineMethod
from segem.geometry import ZYX, Range
from segem.records.base import Record, computed
from segem.records.error_map import SectionErrors
from segem.records.expected import Abstains, Estimate, Expected
from segem.records.intervals import Band, BlockCounts, Ceiling, Interval, TooFew
from segem.records.marks import SectionMark
from segem.records.quality import SectionFlag, SectionQuality
from segem.records.review import Head
from segem.records.review_findings import ReviewFindings
from segem.records.review_gain import ReviewGain
from segem.records.run import ModelRecord
from segem.records.seams import SeamAudit
from segem.records.verdict import RunVerdict, Verdict


class CellScore(Record):
    """V_rand or V_info of a stack, at the one threshold that suits it best; means over its sections."""

    value: float
    precision: float
    """Falls where cells are merged."""
    recall: float
    """Falls where cells are split."""
    threshold: float
    """P(cell) above which a pixel counted as cell."""


class LayerScores(Record):
    """Scores of one membrane mask over all sections of a volume; IoU, precision and recall are pooled over voxels."""

    iou: float
    precision: float | None
    recall: float | None
    rand: CellScore | None
    """None where the truth holds no cell at all."""
    information: CellScore | None
    """None where the truth holds no cell at all."""
    mean_iou: float | None = None
    """Mean of the IoU of membrane and that of background."""
    dice: float | None = None
    iou_outside_band: float | None = None
    """IoU of what is further than the tolerance from the true borders of membrane."""
    boundary_f1: float | None = None
    """F1 of border pixels that have a counterpart within the tolerance."""
    boundary_precision: float | None = None
    boundary_recall: float | None = None
    cl_dice: float | None = None
    """Harmonic mean of the next two, which moves little with the width of membranes."""
    cl_dice_precision: float | None = None
    """Share of the mask's centre lines in true membrane."""
    cl_dice_sensitivity: float | None = None
    """Share of the true centre lines in the mask."""
    pixel_error: float | None = None
    """1 minus the best F1 of cell pixels over thresholds, as in the ISBI 2012 challenge."""
    adapted_rand_error: float | None = None
    """Of the mask, by the convention of scikit-image."""
    voi_split: float | None = None
    """Variation of information of the mask that splits cause, in bits a pixel."""
    voi_merge: float | None = None
    """Variation of information of the mask that mergers cause, in bits a pixel."""
    merges: int | None = None
    """Mergers of cells, summed over sections."""
    splits: int | None = None
    """Splits of cells, summed over sections."""
    warping_error: float | None = None
    """Share of pixels that no change of shape explains; only where it was asked for."""
    tolerance_nm: float | None = None
    """How far a border may be off for the scores that allow for it."""
    undefined: dict[str, str] = {}
    """Scores that have no value, by name, and why."""

    @property
    def v_rand(self) -> float | None:
        """The value of V_rand alone."""
        return self.rand.value if self.rand else None

    @property
    def v_info(self) -> float | None:
        """The value of V_info alone."""
        return self.information.value if self.information else None


class Scores(Record):
    """The scores of the masks of a volume; None where there is no such mask, or no truth."""

    model: LayerScores | None = None
    baseline: LayerScores | None = None
    closed: LayerScores | None = None
    """Of the model's mask, closed by the borders of its cells."""


class IoU(Record):
    """The membrane IoU of both masks of a volume."""

    model: float | None = None
    baseline: float | None = None


class Place(Record):
    """Where cells are merged or split in a section."""

    y: int
    x: int
    pixels: int
    """Size of the smaller of the two parts."""


class SectionScores(Record):
    """Scores of one section; V_rand and V_info at the threshold that is best for the whole stack."""

    section: int
    iou_baseline: float | None = None
    iou_model: float | None = None
    precision: float | None = None
    recall: float | None = None
    v_rand: float | None = None
    v_info: float | None = None
    mean_iou: float | None = None
    dice: float | None = None
    iou_outside_band: float | None = None
    boundary_f1: float | None = None
    cl_dice: float | None = None
    adapted_rand_error: float | None = None
    voi_split: float | None = None
    voi_merge: float | None = None
    merges: int | None = None
    """Mergers of cells by the model's mask."""
    splits: int | None = None
    """Splits of cells by the model's mask."""
    merged_at: tuple[Place, ...] = ()
    """Where, the largest first; 20 at most."""
    split_at: tuple[Place, ...] = ()
    """Where, the largest first; 20 at most."""
    undefined: dict[str, str] = {}
    """Scores that have no value, by name, and why."""


class ReliabilityBin(Record):
    """The voxels whose probability is in one of 15 bins of equal width, from 0 to 1."""

    voxels: int
    probability: float
    """Mean of what the model says."""
    membrane: float
    """Share of them that is membrane."""


class ThresholdPoint(Record):
    """What the model's mask would score if it were cut at another threshold; pooled over voxels."""

    threshold: float
    iou: float
    precision: float | None
    """None where no voxel reaches the threshold."""
    recall: float


SeenUse = Literal["training", "validation", "calibration"]


class SeenSections(Record):
    """Sections that the model, or a model it comes from, has used; scores there do not show how it does on new data."""

    use: SeenUse
    """``validation``: its threshold was chosen there; ``calibration``: its probabilities were fitted there."""
    sections: tuple[Range, ...]
    """Half-open."""


class Baseline(Record):
    """What made the baseline's mask."""

    method: BaselineMethod

    @computed
    def name(self) -> str:
        """Return the name of the method for people."""
        return BASELINE_NAMES[self.method]

    @property
    def title(self) -> str:
        """Return its name as a heading has it."""
        return self.name[0].upper() + self.name[1:]


class VolumeScores(Record):
    """Scores and facts of one volume of a run.

    The IoU of both masks, and precision, recall, V_rand and V_info of the model's, are written beside `scores`, where
    scripts find them at once.
    """

    name: str
    state: Literal["complete", "failed"]
    reason: str | None = None
    """Why the volume failed."""
    note: str | None = None
    """Why a complete volume carries no scores."""
    sections: int | None = None
    shape: ZYX | None = None
    dtype: str | None = None
    source_digest: str | None = None
    """sha256 of the volume's voxels, by which it is recognised in other runs."""
    voxel_nm: tuple[float, float, float] | None = None
    outside_fraction: float = 0.0
    """Share of the volume that is no tissue, such as padding; no score counts it."""
    model: ModelRecord | None = None
    """What made the model's mask; None where there is no such mask."""
    threshold: float | None = None
    """Membrane probability from which the model's mask says membrane."""
    divided: bool = False
    """Whether cells were found, and their borders closed the model's mask."""
    baseline: Baseline | None = None
    """What made the baseline's mask; None where there is no such mask."""
    scores: Scores = Scores()
    per_section: tuple[SectionScores, ...] = ()
    seen: tuple[SeenSections, ...] = ()
    """Sections that the model has used, by the digests on its card."""
    threshold_curve: tuple[ThresholdPoint, ...] = ()
    """Scores of the model's probability at other thresholds."""
    ece: float | None = None
    """Expected calibration error of the probability."""
    reliability: tuple[ReliabilityBin, ...] = ()
    """What the error is made of; bins without voxels are left out."""
    known_fraction: float | None = None
    """Share of the voxels whose truth is known; scores are of them alone. None without truth."""
    seams: SeamAudit | None = None
    """Whether the borders of tiles and blocks show in the probability; None where there is no probability."""
    intervals: dict[str, Interval | TooFew] = {}
    """Of each score of the model's mask by its name; empty where nothing was measured."""
    closed_intervals: dict[str, Interval | TooFew] = {}
    """The same of the closed mask."""
    baseline_intervals: dict[str, Interval | TooFew] = {}
    """The same of the baseline's mask."""
    bands: dict[str, Band] = {}
    """What each score of the model can be held against."""
    ceiling: Ceiling | None = None
    """How well two people agree about the volume; None where only one has labelled it."""
    blocks: BlockCounts | None = None
    """What the intervals of pooled scores, and of their differences from another run, are made of."""
    verdict: Verdict | None = None
    """Whether the volume is accepted; None where nobody has decided."""
    expected: Expected | Abstains | None = None
    """Estimated from the probability alone, whether or not there is truth; None where the model made no mask."""
    errors: tuple[SectionErrors, ...] = ()
    """Expected errors along z, and the measured ones where there is truth; regions are in ``errors/<volume>.json``."""
    flags: tuple[SectionFlag, ...] = ()
    """Sections that stand out from those around them, as found at ingest."""
    quality: tuple[SectionQuality, ...] = ()
    """What was measured of each section at ingest; nothing for volumes of earlier versions of segem."""
    warnings: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether the volume could be compared with truth."""
        return self.scores.model is not None or self.scores.baseline is not None

    @property
    def sections_flagged(self) -> int | None:
        """Number of sections that stand out; None where their quality was not measured."""
        return len({flag.section for flag in self.flags}) if self.quality else None

    @computed
    def seam_ratio(self) -> float | None:
        """How much more the probability jumps at borders of tiles than beside them."""
        return self.seams.ratio if self.seams else None

    @computed
    def iou(self) -> IoU | None:
        """Membrane IoU of both masks; None where nothing was measured."""
        if not self.measured:
            return None
        model, baseline = self.scores.model, self.scores.baseline
        return IoU(model=model.iou if model else None, baseline=baseline.iou if baseline else None)

    @computed
    def expected_iou(self) -> Estimate | Abstains | None:
        """Membrane IoU that the model's mask can be expected to have, an estimate; or why there is none."""
        return self.expected.iou if isinstance(self.expected, Expected) else self.expected

    @computed
    def precision(self) -> float | None:
        """Share of the model's mask that is membrane."""
        return self.scores.model.precision if self.scores.model else None

    @computed
    def recall(self) -> float | None:
        """Share of the membrane that is in the model's mask."""
        return self.scores.model.recall if self.scores.model else None

    @computed
    def v_rand(self) -> float | None:
        """V_rand of the model's probability."""
        return self.scores.model.v_rand if self.scores.model else None

    @computed
    def v_info(self) -> float | None:
        """V_info of the model's probability."""
        return self.scores.model.v_info if self.scores.model else None


class Report(Record):
    """The content of ``report.json``: the scores of a run, and what made them."""

    schema_version: Literal[2] = Field(default=2, alias="schema")
    run: str
    model: ModelRecord | None
    created: str
    segem_version: str
    environment: dict[str, str]
    volumes: tuple[VolumeScores, ...]
    accept: tuple[str, ...] = ()
    """The rules that the volumes were judged by."""
    verdict: RunVerdict | None = None
    """Whether the run is accepted; None where nobody has decided."""
    review: Head | None = None
    """The end of the log of its review, by which one that was written anew is found; None where nobody reviewed it."""
    reviewing: ReviewFindings | None = None
    """What the review says of its people and of the mask; None where nobody reviewed it."""
    gain: ReviewGain | None = None
    """What a review has given the model of the run; None where it has not learned from one."""

    def not_accepted(self) -> dict[str, str]:
        """Return the volumes that are not accepted, or a run without any, and the verdict in words."""
        if not self.volumes and self.verdict is not None:
            return {self.run: self.verdict.sentence}
        return {
            volume.name: volume.verdict.sentence.removeprefix(f"{volume.name}: ")
            for volume in self.volumes
            if volume.verdict is not None and volume.verdict.state != "accepted"
        }

    digest: str = ""
    """What the results were made of, as one sha256: it changes when a volume, the model or a setting changes."""
    marks: tuple[SectionMark, ...] = ()
    """What readers of the report have said about its sections (`segem report RUN --import marks.json`)."""

    def failed(self) -> dict[str, str]:
        """Return the volumes that did not finish, with the reason."""
        return {volume.name: volume.reason or "unknown" for volume in self.volumes if volume.state == "failed"}
