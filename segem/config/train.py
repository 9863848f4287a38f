"""How a model is trained."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from segem.config.base import Config

Precision = Literal["auto", "float32", "bfloat16"]


class TrainConfig(Config):
    """How a model is trained. The schedule fits whichever of `steps` and `minutes` is given."""

    model: str = "unet"
    architecture: dict[str, Any] = {}
    """Options of the architecture, as its registry entry takes them."""
    pretrained: str | None = None
    """Weights of a classifier to start from: ``imagenet``, or the path of a file."""
    freeze: Literal["encoder"] | None = None
    """The part of a net with weights already that is not trained."""
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    steps: int | None = Field(default=None, ge=1)
    """A fixed number of steps makes a run repeatable; minutes end it by the clock."""
    batch: int | None = Field(default=None, ge=1)
    """Crops, or patches, to a step; as suits the architecture where absent."""
    crop_px: int = Field(default=256, ge=32)
    learning_rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Highest one of the schedule; as suits the architecture where absent."""
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the running average of the weights; the average is what is kept."""
    border_weight: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    """How much more than others a membrane pixel between two touching cells counts; 0 counts all alike."""
    border_sigma_px: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """How fast that falls with the distance between the cells."""
    deep_supervision: bool = False
    """Whether coarser levels of the decoder have to show the membranes too, which the net then forgets."""
    remember: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    """How much it counts on rehearsed volumes, beside their truth, that the net gives what it gave before."""
    defects: float = Field(default=0.05, ge=0, le=1)
    """Share of the crops in which a defect is made: dark or pale, dirty, folded or misaligned."""
    precision: Precision = "auto"
    """``bfloat16`` trains in mixed precision; ``auto`` does so where the hardware computes it."""
    checkpoint_seconds: float = Field(default=60.0, gt=0)
    checkpoint_steps: int = Field(default=500, ge=1)
    """How often what is learned so far is put aside; neither changes the result."""
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_budget(self) -> TrainConfig:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps")
        return self
