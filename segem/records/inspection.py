"""What a source holds, as `segem inspect` finds it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segem.geometry import ZYX
from segem.records.base import Record
from segem.records.quality import SectionFlag


class InspectedVoxels(Record):
    """A voxel size, and who says so."""

    z_nm: float | None
    y_nm: float | None
    x_nm: float | None
    """None where it is not said."""
    origin: str

    @property
    def whole(self) -> tuple[float, float, float] | None:
        """The size along (z, y, x); None where a part of it is not known."""
        if self.z_nm is None or self.y_nm is None or self.x_nm is None:
            return None
        return (self.z_nm, self.y_nm, self.x_nm)


class LabelValue(Record):
    """A value of labels."""

    value: float
    share: float
    """Of the pixels of the sections that were looked at."""


class InspectedLabelSource(Record):
    """What the sampled sections of the labels hold."""

    source: str
    dtype: str
    distinct: int
    """How many values there are."""
    values: tuple[LabelValue, ...]
    """The most frequent ones."""
    membrane_share: float | None
    """Share of membrane, where the value that means it was given."""


class JobEstimate(Record):
    """What the job is expected to take; estimates."""

    ingest_seconds: float
    """From the time that it took to read, measure and compress the sample here."""
    segment_seconds: float
    """By a speed that was measured on another machine with the bundled model; `segem bench` measures this one."""
    volume_bytes: int
    """Of the volume, from how well the sample compresses."""
    run_bytes: int
    """Of a run with a model, at most."""
    free_bytes: int
    """Free on the disk of the workspace."""


class Inspection(Record):
    """What a source holds, and what to do next."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    source: str
    format: str
    files: int
    stored_bytes: int
    axes: str
    axes_from: str
    """Who says what the axes are."""
    shape: ZYX
    """Along (z, y, x), within the box."""
    dtype: str
    voxel: InspectedVoxels | None
    unitless: str
    """What the source says of the voxel size without a unit."""
    offset_nm: tuple[float, float, float] | None
    """Where the first voxel lies, if the source says so."""
    percentiles: dict[str, float]
    """Intensities of the sampled sections, ``0`` the least and ``100`` the largest."""
    outside: float
    """Share of the sampled pixels that show no tissue."""
    first_section: str
    last_section: str
    numbers: tuple[float, float] | None
    """The first and last number, where sections have numbers of their own."""
    gaps: tuple[str, ...]
    """Numbers that are missing."""
    sampled: tuple[int, ...]
    """The sections that were looked at."""
    flags: tuple[SectionFlag, ...]
    """Sections of the sample that stand out from those around them."""
    labels: InspectedLabelSource | None
    looks_like_labels: bool
    """Whether the image itself does: what is said of its tissue means nothing then."""
    warnings: tuple[str, ...]
    estimate: JobEstimate
    picture: str | None
    tentative: dict[str, str | int]
    """What was chosen for this look only, where ingest would refuse because it must be chosen."""
    refusal: str | None
    """What ingest would say."""
