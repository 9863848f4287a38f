"""The card of a model, ``model.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from segem.config import Name, Precision
from segem.geometry import Range
from segem.records.base import Record
from segem.records.reference import Reference
from segem.records.review import ReviewedLabels


class FittedOn(Record):
    """Sections of one volume that a calibration was fitted on."""

    volume: str
    source_digest: str
    """sha256 of the volume's voxels."""
    sections: Range
    section_digests: tuple[str, ...]
    """Digest of each section, by which it is recognised in a stack that has grown."""


class Calibration(Record):
    """The line that maps logits to calibrated ones, from `segem.kernels.platt.fit_platt`, and how well it fits."""

    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    bias: float = Field(default=0.0, allow_inf_nan=False)
    ece_before: float | None = None
    """Expected calibration error without it, on the sections it was fitted on; mean over their volumes."""
    ece_validation: float | None = None
    """The same with it."""
    fitted_on: tuple[FittedOn, ...] = ()
    """Empty where these are the validation sections of the training."""

    @property
    def line(self) -> tuple[float, float]:
        """The two numbers that change the output: scale and bias."""
        return self.scale, self.bias


NO_CALIBRATION = Calibration()


class TrainedOn(Record):
    """The training and validation sections of one volume for a model."""

    volume: str
    source_digest: str
    """sha256 of the volume's voxels."""
    train: Range
    validation: Range
    train_digests: tuple[str, ...]
    validation_digests: tuple[str, ...]
    """Digest of each section, by which it is recognised in a stack that has grown."""
    share: float
    """Share of the crops that were drawn from this volume."""


class LearnedAt(Record):
    """The voxel sizes of the volumes that a model was trained on: smallest and largest, in nanometres."""

    pixel_nm: tuple[float, float]
    """Along y and x."""
    section_nm: tuple[float, float]
    """Along z."""


class HeldOutScore(Record):
    """Scores on test sections of one volume, which neither trained the model nor chose its threshold."""

    volume: str
    sections: Range
    iou: float
    v_rand: float | None
    v_info: float | None
    """None where no cell could be scored, or where the thresholds of a later calibration cut other masks."""
    ece: float | None
    """Expected calibration error of the probability; None where it was measured before a later calibration."""


class MeasuredHalo(Record):
    """The measured context that a net needs around a core, where its architecture gives none."""

    px: int = Field(ge=0)
    tolerance: float = Field(gt=0)
    """Largest difference of a logit that was accepted."""


class TrainingRecord(Record):
    """How a model was trained, and the outcome; settings have the names of `segem.config.TrainConfig`."""

    options: dict[str, JsonValue]
    """Options of the architecture, all of them."""
    pretrained: str | None
    freeze: Literal["encoder"] | None
    batch: int
    crop_px: int
    learning_rate: float
    weight_decay: float
    ema_decay: float
    border_weight: float
    border_sigma_px: float
    deep_supervision: bool
    remember: float | None
    """Weight of the distillation from the base model; None where no volume was rehearsed."""
    teach: float | None = None
    """Weight of the distillation from the teacher; None where there was none."""
    defects: float
    appearance: float = 0.0
    pixel_nm: tuple[float, float] | None = None
    precision: Precision
    seed: int
    steps: int
    minutes: float
    """Time used, over all processes."""
    final_loss: float | None
    """Running average at the last step; None where it was not noted."""
    validation_iou: float
    base: BaseRecord | None
    """The model that was fine-tuned; None for a training from scratch."""
    teacher: BaseRecord | None = None
    """The model whose output was learned beside the labels; None where labels alone taught."""


class BaseRecord(Record):
    """The model that a training started from, or learned from."""

    digest: str
    training: TrainingRecord | None
    """None where it is unknown, as for imported weights."""


class ModelCard(Record):
    """The content of ``model.json``."""

    schema_version: Literal[2] = 2
    name: Name
    architecture: str
    """Name in the zoo."""
    options: dict[str, JsonValue] = {}
    normalisation: Literal["volume-zscore"] = "volume-zscore"
    calibration: Calibration = NO_CALIBRATION
    """Applied to the net's logits; the saved weights do not contain it."""
    threshold: float = Field(gt=0, lt=1)
    """Probability from which a voxel is membrane, chosen on validation sections."""
    merge_below: float | None = Field(default=None, gt=0, lt=1)
    """Mean probability of a border below which the two sides are one cell, chosen on the same sections; None where they
    hold no cell, or before that was chosen. It changes no probability."""
    halo: MeasuredHalo | None = None
    trained_on: tuple[TrainedOn, ...] = ()
    """Empty for imported weights, where it is unknown."""
    reviewed: tuple[ReviewedLabels, ...] = ()
    """Reviews that its own training took labels from, also those that chose its threshold or judged it."""
    learned_at: LearnedAt | None = None
    """Of its own training, not of its base model's; None where it is unknown."""
    reference: Reference | None = None
    """What its estimates without truth were fitted on; None where nothing was, so that it gives none."""
    scores: tuple[HeldOutScore, ...] = ()
    training: TrainingRecord | None = None
    """None for imported weights."""
    licence: str = ""
    citation: str = ""
    versions: dict[str, str] = {}
    weights_sha256: str = ""
    """Of the file of weights; filled in where the model is written."""
