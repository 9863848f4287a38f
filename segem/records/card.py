"""The card of a model, ``model.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from segem.config import Name, Precision
from segem.geometry import Range
from segem.records.base import Record


class FittedOn(Record):
    """Sections of one volume that a calibration was fitted on."""

    volume: str
    source_digest: str
    """sha256 of the volume's voxels."""
    sections: Range
    section_digests: tuple[str, ...]
    """Of each section, by which it is known in a stack that has grown."""


class Calibration(Record):
    """The line that logits are put through, found by `segem.kernels.platt.fit_platt`, and how well it fits."""

    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    bias: float = Field(default=0.0, allow_inf_nan=False)
    ece_before: float | None = None
    """Expected calibration error of the net alone on the sections it was fitted on, mean over their volumes."""
    ece_validation: float | None = None
    """The same of the calibrated net."""
    fitted_on: tuple[FittedOn, ...] = ()
    """Empty where these are the sections that validated the training."""

    @property
    def line(self) -> tuple[float, float]:
        """All that changes what the net gives: scale and bias."""
        return self.scale, self.bias


NO_CALIBRATION = Calibration()


class TrainedOn(Record):
    """The sections of one volume that made a model."""

    volume: str
    source_digest: str
    """sha256 of the volume's voxels."""
    train: Range
    validation: Range
    train_digests: tuple[str, ...]
    validation_digests: tuple[str, ...]
    """Of each section, by which it is known in a stack that has grown."""
    share: float
    """Share of what was drawn that came from this volume."""


class HeldOutScore(Record):
    """What a model reached on test sections of one volume, from which it neither learned nor chose its threshold."""

    volume: str
    sections: Range
    iou: float
    v_rand: float | None
    v_info: float | None
    """None where no cell could be scored, or where the thresholds of a later calibration cut other masks."""
    ece: float | None
    """Expected calibration error of the probability; None where it was measured before a later calibration."""


class MeasuredHalo(Record):
    """The context around a core that a net was found to need, where its architecture does not say."""

    px: int = Field(ge=0)
    tolerance: float = Field(gt=0)
    """Largest difference of a logit that counted as none."""


class TrainingRecord(Record):
    """How a model was trained, and what came of it; settings are called as in `segem.config.TrainConfig`."""

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
    defects: float
    precision: Precision
    seed: int
    steps: int
    minutes: float
    """What was used up of the budget."""
    final_loss: float | None
    """Running average at the last step; None where it was not noted."""
    validation_iou: float
    base: BaseRecord | None
    """The model that was fine-tuned; None for a training from scratch."""


class BaseRecord(Record):
    """The model that a training started from."""

    digest: str
    training: TrainingRecord | None
    """None where nobody knows it, as of imported weights."""


class ModelCard(Record):
    """The content of ``model.json``."""

    schema_version: Literal[2] = 2
    name: Name
    architecture: str
    """Name in the zoo."""
    options: dict[str, JsonValue] = {}
    normalisation: Literal["volume-zscore"] = "volume-zscore"
    calibration: Calibration = NO_CALIBRATION
    """What makes probabilities of the net's logits; the weights are those before."""
    threshold: float = Field(gt=0, lt=1)
    """Probability from which a voxel is membrane, chosen on validation sections."""
    halo: MeasuredHalo | None = None
    trained_on: tuple[TrainedOn, ...] = ()
    """Empty for imported weights, of which nobody knows it."""
    scores: tuple[HeldOutScore, ...] = ()
    training: TrainingRecord | None = None
    """None for imported weights."""
    licence: str = ""
    citation: str = ""
    versions: dict[str, str] = {}
    weights_sha256: str = ""
    """Of the file of weights; filled in where the model is written."""
