"""How a model is trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from segem.config.base import Config
from segem.config.execution import Device
from segem.config.names import Name

Precision = Literal["auto", "float32", "bfloat16"]

TRAIN_MINUTES = 30.0
"""Time budget of a training job that names neither minutes nor steps."""
SHARE = 0.3
"""Default share of the crops that is drawn from rehearsed volumes."""


class TrainConfig(Config):
    """How a model is trained. The learning rate follows the share of the budget used, in steps or in minutes."""

    model: str = "unet"
    """Architecture, a name of `segem models list`; with a base model, its own."""
    architecture: dict[str, Any] = {}
    """Options of the architecture, as `segem models show ARCHITECTURE` lists them."""
    pretrained: str | None = None
    """Weights of an ImageNet classifier to start from: ``imagenet`` downloads them, or a .pth or .safetensors file."""
    freeze: Literal["encoder"] | None = None
    """Part of the net that keeps its weights, so that only the decoder adapts to a few sections."""
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Time budget in minutes."""
    steps: int | None = Field(default=None, ge=1)
    """Number of steps, instead of minutes: the training can then be repeated exactly."""
    batch: int | None = Field(default=None, ge=1)
    """Crops, or patches, in a step; the default of the architecture when absent."""
    crop_px: int = Field(default=256, ge=32)
    """Edge of a crop in pixels."""
    learning_rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Peak learning rate of the schedule; the default of the architecture when absent."""
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    """Weight decay of AdamW."""
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the running average of the weights; the average is what is kept."""
    border_weight: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    """Extra weight of a membrane pixel between two touching cells; 0 weights all pixels alike."""
    border_sigma_px: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """How fast the extra weight falls with the distance of the cells, a standard deviation in pixels."""
    deep_supervision: bool = False
    """Train coarser levels of the decoder on the membranes too, with heads that are dropped afterwards; for a unet of
    depth 3 or more."""
    remember: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    """Weight of distillation: on rehearsed volumes the net is trained on the output of the base model as well as on
    labels; 0 for labels alone."""
    teacher: str | None = None
    """Trained model, by name or folder, whose output on every crop is learned beside the labels, as a small net does
    from a large one. It sees as many sections as the net."""
    teach: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    """Weight of what the teacher says, where that of the labels is 1."""
    defects: float = Field(default=0.05, ge=0, le=1)
    """Share of the crops that get an artificial defect (dark, pale, dirt, fold, misalignment), and of those in which
    the tissue ends, so that the net copes with real ones."""
    appearance: float = Field(default=0.0, ge=0, le=1)
    """Share of the crops that are made to look like another tissue or microscope: staining, shading, width of the
    membranes, sharpness and noise, for a net that is to be used on tissue it has not seen."""
    pixel_nm: tuple[float, float] | None = None
    """Smallest and largest pixel size in nanometres, as 3,12, between which crops are resampled at random; as ingested
    when absent."""
    precision: Precision = "auto"
    """``bfloat16`` trains in mixed precision; ``auto`` does so where the hardware supports it."""
    checkpoint_seconds: float = Field(default=60.0, gt=0)
    """Seconds between checkpoints, from which the same command resumes; they do not change the result."""
    checkpoint_steps: int = Field(default=500, ge=1)
    """Most steps between checkpoints; they do not change the result."""
    look_seconds: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Least seconds between looks at the validation sections, the points of a training's curve; looks take a twentieth
    of the time at most and do not change the result."""
    seed: int = Field(default=0, ge=0)
    """Seed of all random choices."""

    @field_validator("pixel_nm")
    @classmethod
    def _ascending(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1] < math.inf:
            raise ValueError(f"two pixel sizes in nanometres, the smaller one first, found {value[0]:g},{value[1]:g}")
        return value

    @model_validator(mode="after")
    def _one_budget(self) -> TrainConfig:
        # The schedule needs one end: with both budgets nobody could say which comes first.
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps")
        return self


class TrainJobConfig(Config):
    """A training job: what is trained, from which base model, and what is rehearsed."""

    out: Name
    """Name of the model, of which a new version is made."""
    train: TrainConfig = TrainConfig(minutes=TRAIN_MINUTES)
    """How it is trained."""
    start: str | None = None
    """Base model to fine-tune, by name or folder; from scratch when absent."""
    rehearse: Path | None = None
    """Manifest of volumes that the base model was trained on, to train on them again beside the new ones, so that they
    are not forgotten."""
    share: float = SHARE
    """Share of the crops that is drawn from rehearsed volumes."""
    replace: bool = False
    """Discard volumes of these names that have another source, voxel size or labels, and ingest them anew; otherwise
    they are kept and the job is refused."""
    device: Device = "auto"
    """Where to compute; ``auto`` takes a GPU where there is one."""
    licence: str = ""
    """Licence of the weights, for the model's card; that of the base model when absent."""
    citation: str = ""
    """What to cite when the model is used, for its card, in addition to what the base model cites."""
