"""Settings of the methods that need no labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from segem.config.base import Config

BaselineMethod = Literal["kmeans", "kmeans-features", "watershed", "ncut"]
BASELINE_NAMES: dict[str, str] = {
    "kmeans": "K-means",
    "kmeans-features": "K-means on features",
    "watershed": "watershed",
    "ncut": "normalised cuts",
}
"""Names of the methods in messages and reports."""
SigmaPx = Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("a line has a middle, so its width is an odd number")
    return value


LinePx = Annotated[int, Field(ge=1, le=51), AfterValidator(_odd)]


class FeatureOptions(Config):
    """K-means on filter features; the cluster of the darkest mean intensity is membrane."""

    sigmas_px: tuple[Annotated[float, Field(gt=0, le=16, allow_inf_nan=False)], ...] = Field(
        (1.0, 2.0, 4.0), min_length=1
    )
    """Scales of the filters, in pixels."""
    clusters: int = Field(default=2, ge=2, le=16)
    """Number of clusters."""


class WatershedOptions(Config):
    """Watershed lines of the smoothed darkness."""

    sigma_px: SigmaPx = 2.0
    """Smoothing before flooding, in pixels."""
    depth: float = Field(default=1.2, gt=0, le=100)
    """Basins shallower than this are merged, in standard deviations of the volume's intensity."""
    width_px: LinePx = 7
    """Width of the lines drawn between basins, an odd number of pixels."""


class NcutOptions(Config):
    """Borders between the regions that normalised cuts of superpixels produce."""

    sigma_px: SigmaPx = 2.0
    """Smoothing before anything else, in pixels."""
    superpixel_px: int = Field(default=300, ge=50, le=10_000)
    """Area of a superpixel, in pixels; smaller ones take much longer."""
    darkness: float = Field(default=1.0, gt=0, le=10)
    """How dark a border must be to separate two superpixels, in standard deviations of the volume's intensity."""
    cut: float = Field(default=0.1, gt=0, le=2)
    """A region is cut in two while the normalised cut costs less than this."""
    width_px: LinePx = 7
    """Width of the lines drawn between regions, an odd number of pixels."""


class BaselineConfig(Config):
    """How membrane is found without labels: by K-means on intensity unless another method is named."""

    method: BaselineMethod = "kmeans"
    """``kmeans``: the darker of two clusters of intensity. ``kmeans-features``: the darkest cluster of filter
    responses. ``watershed``: the lines between basins. ``ncut``: the borders between normalised cuts."""
    sigma_px: SigmaPx = 0.0
    """Gaussian smoothing within each section before ``kmeans``, in pixels; 0 clusters raw intensity."""
    seed: int = Field(default=0, ge=0)
    """Seed of all random choices: the sample of ``kmeans-features``, the first guesses of ``ncut``."""
    features: FeatureOptions = FeatureOptions()
    watershed: WatershedOptions = WatershedOptions()
    ncut: NcutOptions = NcutOptions()

    @model_validator(mode="after")
    def _smoothing_is_for_intensity(self) -> BaselineConfig:
        if self.sigma_px and self.method != "kmeans":
            raise ValueError(f"sigma_px smooths for kmeans; {self.method} has scales of its own")
        return self
