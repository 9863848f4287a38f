"""The card of a model, ``model.json``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from segem.config import Name
from segem.records.base import Record


class FittedOn(Record):
    """Sections of one volume that a calibration was fitted on."""

    volume: str
    source_digest: str
    """sha256 of the volume's voxels."""
    sections: tuple[int, int]


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
    train: tuple[int, int]
    validation: tuple[int, int]
    train_digests: tuple[str, ...] = ()
    validation_digests: tuple[str, ...] = ()
    """Of each section, by which it is known in a stack that has grown; cards of before do not say."""
    share: float | None = None
    """Share of what was drawn that came from this volume; cards of before do not say."""


class Score(Record):
    """What a model reached on sections it never saw, and which ones."""

    volume: str
    sections: tuple[int, int]
    iou: float
    v_rand: float | None
    v_info: float | None
    ece: float | None = None
    """Expected calibration error of the probability."""


class MeasuredHalo(Record):
    """The context around a core that a net was found to need, where its architecture does not say."""

    px: int = Field(ge=0)
    tolerance: float = Field(gt=0)
    """Largest difference of a logit that counted as none."""


class ModelCard(Record):
    """The content of ``model.json``."""

    format: Literal[1] = 1
    name: Name
    architecture: str
    """Name in the zoo."""
    options: dict[str, Any] = {}
    normalisation: Literal["volume-zscore"] = "volume-zscore"
    calibration: Calibration = NO_CALIBRATION
    """What makes probabilities of the net's logits; the weights are those before."""
    threshold: float = Field(gt=0, lt=1)
    """Probability from which a voxel is membrane, chosen on validation sections."""
    halo: MeasuredHalo | None = None
    trained_on: tuple[TrainedOn, ...] = ()
    scores: tuple[Score, ...] = ()
    training: dict[str, Any] = {}
    """Settings and outcome of the training run."""
    licence: str = ""
    citation: str = ""
    versions: dict[str, str] = {}
    weights_sha256: str = ""
    """Of the file of weights; cards of before do not say."""
