"""Whether the borders of tiles and blocks show in a probability."""

from __future__ import annotations

from segem.records.base import Record


class SeamAudit(Record):
    """How much more a probability jumps at the borders of tiles and blocks than at planes beside them."""

    planes: int
    """Borders inside the volume, along all axes; 0 where nothing was cut."""
    ratio: float | None = None
    """About 1 where no seam shows; null where there is no border, or no plane to compare one with."""
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval of the ratio."""
    ratio_z: float | None = None
    """The same between sections, at the borders of blocks along z."""
    shows: bool = False
    """Whether a seam shows: then the volume is rejected whatever the rules say."""
    where: str | None = None
    """Where it shows most, in words."""

    def describe(self) -> str:
        """Return in a sentence what was found."""
        if self.shows:
            return f"seams show {self.where}"
        if self.planes == 0:
            return "no seam can show: the volume has no borders inside"
        if self.ratio is None:
            return "seams were not measured: there is nothing beside the borders to compare them with"
        return f"no seam shows: at borders the probability jumps {self.ratio:.2f} times as much as beside them"
