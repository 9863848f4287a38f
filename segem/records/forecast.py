"""What a campaign is expected to take."""

from __future__ import annotations

from segem.records.base import Record


class VolumeForecast(Record):
    """What one volume is expected to take, from a trial of some of its sections."""

    name: str
    sections: int | None = None
    tried: int = 0
    """Sections of the larger trial."""
    seconds: float | None = None
    """With nothing beside it, and without the start of the process."""
    disk_bytes: int | None = None
    """Of the volume, its results and its part of the report."""
    memory_bytes: int | None = None
    """Peak of the process."""
    refusal: str | None = None
    """Why it cannot be taken; None where it can."""


class CampaignForecast(Record):
    """What a campaign is expected to take where nothing of it is finished yet."""

    run: str
    volumes: tuple[VolumeForecast, ...]
    start_seconds: float
    """Until the first volume begins: the process, Prefect, the libraries."""
    seconds: float
    """One volume after the other; side by side they take less."""
    disk_bytes: int
    memory_bytes: int
    free_bytes: int
    """On the disk of the workspace."""

    def refused(self) -> dict[str, str]:
        """Return the volumes that cannot be taken, with the reason."""
        return {volume.name: volume.refusal for volume in self.volumes if volume.refusal is not None}
