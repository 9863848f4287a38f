"""What a model's card keeps of the labelled sections that its estimates were fitted on."""

from __future__ import annotations

from pydantic import Field

from segem.geometry import Range
from segem.records.base import Record


class Spread(Record):
    """Where a quantity lies, in log odds of a score."""

    middle: float = Field(allow_inf_nan=False)
    """Of all labelled sections together."""
    deviation: float = Field(ge=0, allow_inf_nan=False)
    """Root mean square distance of single pieces from that."""


class ReferenceVolume(Record):
    """The labelled sections of one volume, as a model saw them."""

    volume: str
    source_digest: str
    """sha256 of the volume's voxels."""
    sections: Range
    """Those with labels that the estimate was fitted on."""
    seen_sections: int
    """Sections whose images alone were looked at, since the model had learned from them."""
    pixel_nm: tuple[float, float]
    """Shorter and longer edge of a pixel."""
    section_nm: float
    """Distance of sections."""
    section_px: int = Field(gt=0)
    """Pixels of a section; of those with cells, the mean of how many are labelled."""
    cell_sections: int | None = Field(default=None, gt=0)
    """Sections that V_rand was measured on; all of `sections` where absent."""
    traits: dict[str, tuple[float, float]]
    """Least and greatest value of each trait of `segem.kernels.drift.TRAITS`, over pieces of the sections."""
    iou: Spread
    """Measured less expected IoU."""
    v_rand: Spread | None
    """Measured V_rand; None where the truth holds no cell."""


class Reference(Record):
    """What estimates without truth rest on, see `segem.kernels.expected`; without it none is made."""

    pieces: int
    """Labelled pieces, of all volumes, that expected and measured scores were compared on."""
    volumes: tuple[ReferenceVolume, ...] = Field(min_length=1)
