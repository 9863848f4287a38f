"""What is known of the quality of the sections of a volume, and which of them stand out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segem.records.base import Record

FlagKind = Literal["blank", "copy", "inverted", "order", "shift", "blurred", "contrast", "brightness", "noise", "flat"]
"""``blank``: one intensity only; ``copy``: of another section; ``inverted``: dark where its neighbour is
bright, alone or with those that follow; ``order``: unlike both neighbours, which are alike;
``flat``: along an edge, as padding with noise is."""


class SectionQuality(Record):
    """Measures of one section; None where they cannot be taken."""

    section: int
    sharpness: float | None = None
    """Strength of the edges that are no noise, as a share of the contrast."""
    contrast: float | None = None
    """From the 5th to the 95th percentile, in intensities."""
    brightness: float | None = None
    """Median intensity."""
    noise: float | None = None
    """Standard deviation of what changes from pixel to pixel, in intensities."""
    darkest: float | None = None
    brightest: float | None = None
    """The ends of the intensities; beyond those of the type where some were cut off, by how many pixels tell."""
    outside: float = 0.0
    """Share of the pixels that lie outside the tissue; they count for nothing else."""
    shift_y_px: float | None = None
    shift_x_px: float | None = None
    """How far it lies down and to the right of the section before."""
    similarity: float | None = None
    """Correlation with the section before, where both overlap best."""


class SectionFlag(Record):
    """A section that stands out from those around it."""

    section: int
    kind: FlagKind
    reason: str
    """In words, with numbers and units."""


class VolumeQuality(Record):
    """What the attributes of a volume hold of its quality; the measures of each section are in ``quality.csv``."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    sections: int
    sample_px: tuple[int, int]
    """Height and width of the middle of each section, of which the measures were taken."""
    flags: tuple[SectionFlag, ...] = ()

    def summarise(self) -> str | None:
        """Return in one line which sections stand out; None where none does.

        Examples
        --------
        >>> flag = SectionFlag(section=3, kind="shift", reason="shifted by 11 px against the section before")
        >>> VolumeQuality(sections=9, sample_px=(64, 64), flags=(flag,)).summarise()
        'section 3 stands out: shifted by 11 px against the section before'
        """
        # Sections without tissue, in all or along an edge, have warnings of their own.
        flags = [flag for flag in self.flags if flag.kind not in ("blank", "flat")]
        if not flags:
            return None
        if len(flags) == 1:
            return f"section {flags[0].section} stands out: {flags[0].reason}"
        found = sorted({flag.section for flag in flags})
        listed = ", ".join(map(str, found[:8])) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
        who = f"section {listed} stands out" if len(found) == 1 else f"sections {listed} stand out"
        return f"{who}, the first one: {flags[0].reason}; all reasons are in quality.csv and in the report"
