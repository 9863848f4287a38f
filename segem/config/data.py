"""Settings of the download of public data sets."""

from __future__ import annotations

from pathlib import Path

from segem.config.base import Config


class DataConfig(Config):
    """Where public data sets are put."""

    to: Path = Path("em-data")
    """Folder in which each set gets a folder of its own; it is what ``--data-root`` names where a manifest is run."""
