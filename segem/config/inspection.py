"""What of a source is inspected: as for ingest, with nothing that must be known before."""

from __future__ import annotations

from segem.config.ingest import IngestConfig, LabelSource, Polarity


class InspectedLabels(LabelSource):
    """Labels to look at; which value means membrane may be what one wants to find out."""

    membrane: Polarity | None = None  # type: ignore[assignment] # wider on purpose
    """Which values mean membrane, as for ``segem ingest``, where it is known."""


class InspectConfig(IngestConfig):
    """What of a source is inspected."""

    name: str = ""
    """Name of the volume in the command that is proposed; that of the source where absent."""
    labels: InspectedLabels | None = None
    """Ground truth, if there is any."""
