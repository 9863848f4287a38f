"""Whether the borders of tiles and blocks show in a probability, and whether what is stored there is the model's."""

from __future__ import annotations

from typing import Literal

from segem.geometry import Range
from segem.records.base import Record

INSIDE = "inside a tile"
"""What meets at a place where nothing does."""


class RecomputedPlace(Record):
    """A place of one section where a probability was computed anew, and how far what is stored is from that."""

    section: int
    rows: Range
    columns: Range
    """First and one past the last."""
    plane: str
    """What meets there, in words."""
    share: float
    """Of its voxels that differ at all."""
    levels: int
    """The most that any of them differs by, of the 256 levels that are stored."""

    def describe(self) -> str:
        """Return in words where it is and how much differs."""
        (top, bottom), (left, right) = self.rows, self.columns
        return (
            f"section {self.section}, rows {top} to {bottom - 1}, columns {left} to {right - 1} ({self.plane}): "
            f"{100 * self.share:.2f} % of the voxels differ, by up to {self.levels} of 256 levels"
        )


class Recomputed(Record):
    """Places that were computed anew by the plainest way there is, without tiles or engines, once all was written."""

    manner: Literal["in one piece", "tile by tile"] = "in one piece"
    """Where the plan's tiles make no whole, each of those that meet is computed by itself."""
    places: tuple[RecomputedPlace, ...] = ()
    most_levels: int = 0
    most_share: float = 0.0
    """How far a place may be off: by rounding, and where another kind of processor or precision has computed."""
    why: str | None = None
    """Why no place was computed; null where there are some."""
    of: str | None = None
    """The run whose probability was computed anew, where that was refined afterwards."""
    compared: str | None = None
    """sha256 of the blocks that were compared, and of how tiles were laid."""

    @property
    def worst(self) -> RecomputedPlace | None:
        """The place that is off most; None where there is none."""
        return max(self.places, key=lambda place: (place.levels, place.share), default=None)

    @property
    def off(self) -> tuple[RecomputedPlace, ...]:
        """The places that are further off than they may be."""
        return tuple(one for one in self.places if one.levels > self.most_levels or one.share > self.most_share)

    def describe(self) -> str:
        """Return in a sentence what was found."""
        worst, places = self.worst, "1 place" if len(self.places) == 1 else f"{len(self.places)} places"
        if worst is None:
            return f"no place was computed anew: {self.why}"
        stored = "what is stored" if self.of is None else f"what run {self.of} holds, from which this was refined,"
        if self.off:
            return (
                f"{stored} is not what the model gives {self.manner}, in {len(self.off)} of {places} computed anew, "
                f"most of all in {worst.describe()}"
            )
        where = " where tiles or blocks meet" if any(one.plane != INSIDE for one in self.places) else ""
        within = "exactly" if not worst.levels else f"within {worst.levels} of 256 levels"
        return f"{places}{where}, computed anew {self.manner}, are {within} {stored.removesuffix(',')}"


class SeamAudit(Record):
    """How much more a probability jumps at borders of tiles and blocks than beside them, and what was computed anew."""

    planes: int
    """Borders inside the volume, along all axes; 0 where nothing was cut."""
    planes_z: int = 0
    """Those of them between sections, where blocks end."""
    ratio: float | None = None
    """About 1 where no seam shows; null where there is no border, or no plane to compare one with."""
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval of the ratio."""
    ratio_z: float | None = None
    """The same between sections, at the borders of blocks along z."""
    shows: bool = False
    """Whether a seam shows, or a place is not what was stored: then the volume is rejected whatever the rules say."""
    where: str | None = None
    """Where it shows most, in words."""
    recomputed: Recomputed | None = None
    """Places that the model computed anew; null where nobody has: a result of others, or of an earlier version."""

    @property
    def within_sections(self) -> int:
        """How many borders cut a section."""
        return self.planes - self.planes_z

    def beside(self, recomputed: Recomputed | None) -> SeamAudit:
        """Return the audit with what was computed anew, by which it is judged as well.

        Examples
        --------
        >>> place = RecomputedPlace(section=0, rows=(0, 64), columns=(0, 64), plane="inside", share=0.5, levels=9)
        >>> found = SeamAudit(planes=2, ratio=1.0).beside(Recomputed(places=(place,), most_levels=1))
        >>> found.shows, found.describe()[:54]
        (True, 'seams show: what is stored is not what the model gives')
        """
        changes: dict[str, object] = {"recomputed": recomputed}
        if recomputed is not None and recomputed.off:
            changes |= {"shows": True, "where": "; ".join(filter(None, (recomputed.describe(), self.where)))}
        return self.model_copy(update=changes)

    def describe(self) -> str:
        """Return in a sentence what was found at the borders."""
        if self.shows:
            return f"seams show{':' if self.recomputed and self.recomputed.off else ''} {self.where}"
        if self.planes == 0:
            return "no seam can show: the volume has no borders inside"
        if not self.within_sections:
            return "no seam can show within a section: each was computed in one piece"
        if self.ratio is None:
            return "seams were not measured: there is nothing beside the borders to compare them with"
        return f"no seam shows: at borders the probability jumps {self.ratio:.2f} times as much as beside them"

    def describe_recomputed(self) -> str:
        """Return in a sentence what was computed anew."""
        if self.recomputed is None:
            return "no place was computed anew by the model, so seams are judged by what shows alone"
        return self.recomputed.describe()
