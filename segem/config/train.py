"""How a model is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from segem.config.base import Config
from segem.config.execution import Device
from segem.config.names import Name

Precision = Literal["auto", "float32", "bfloat16"]

TRAIN_MINUTES = 30.0
"""Time budget of a training job that names neither minutes nor steps."""
SHARE = 0.3
"""Share of the crops that is drawn from rehearsed volumes where none is given."""


class TrainConfig(Config):
    """How a model is trained. The schedule fits whichever of `steps` and `minutes` is given."""

    model: str = "unet"
    """Architecture, a name of `segem models list`; a base model has its own."""
    architecture: dict[str, Any] = {}
    """Options of the architecture, as `segem models show ARCHITECTURE` lists them."""
    pretrained: str | None = None
    """Weights of an ImageNet classifier to start from: ``imagenet`` downloads them, or a .pth or .safetensors file."""
    freeze: Literal["encoder"] | None = None
    """Part of the net that is not trained: with few sections, only the decoder adapts to them."""
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Time budget in minutes."""
    steps: int | None = Field(default=None, ge=1)
    """Number of steps, for a training that can be repeated exactly."""
    batch: int | None = Field(default=None, ge=1)
    """Crops, or patches, in a step; as suits the architecture when absent."""
    crop_px: int = Field(default=256, ge=32)
    """Edge of a crop in pixels."""
    learning_rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Highest learning rate of the schedule; as suits the architecture when absent."""
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    """Weight decay of AdamW."""
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the running average of the weights; the average is what is kept."""
    border_weight: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    """How much more a membrane pixel between two touching cells counts than others; 0 counts all alike."""
    border_sigma_px: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """How fast that weight falls with the distance between the cells, a standard deviation in pixels."""
    deep_supervision: bool = False
    """Train coarser levels of the decoder on the membranes too, with heads that are dropped afterwards; a unet has
    such levels."""
    remember: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    """Weight of distillation: how much it counts on rehearsed volumes, beside their labels, that the net gives what the
    base model gave; 0 for the labels alone."""
    defects: float = Field(default=0.05, ge=0, le=1)
    """Share of the crops that get an artificial defect (dark or pale, dirty, folded, misaligned), so that the net copes
    with real ones; 0 for none."""
    precision: Precision = "auto"
    """``bfloat16`` trains in mixed precision; ``auto`` does so where the hardware computes it."""
    checkpoint_seconds: float = Field(default=60.0, gt=0)
    """Seconds between two checkpoints, from which the same command continues; it does not change the result."""
    checkpoint_steps: int = Field(default=500, ge=1)
    """Most steps between two checkpoints; it does not change the result."""
    seed: int = Field(default=0, ge=0)
    """Seed of all random choices."""

    @model_validator(mode="after")
    def _one_budget(self) -> TrainConfig:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps")
        return self


class TrainJobConfig(Config):
    """A training job: what is trained, from which base model, and what is rehearsed meanwhile."""

    out: Name
    """Name of the model, of which a new version is made."""
    train: TrainConfig = TrainConfig(minutes=TRAIN_MINUTES)
    """How it is trained."""
    start: str | None = None
    """Base model to fine-tune, by name or folder; from scratch when absent."""
    rehearse: Path | None = None
    """Manifest of what the base model was trained on: trained on again beside the new volumes, so as not to forget
    it."""
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
    """What to cite when the model is used, for its card; what the base model cites is kept."""
