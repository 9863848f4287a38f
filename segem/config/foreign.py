"""Weights that segem has not trained."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from segem.config.base import Config


class ForeignConfig(Config):
    """What segem has to be told about weights that it has not trained."""

    model: str
    """Architecture of the weights, a name of `segem models list`."""
    architecture: dict[str, Any] = {}
    """Options of the architecture, as `segem models show ARCHITECTURE` lists them."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability from which a voxel is membrane."""
    licence: str = ""
    """Licence of the weights, for the model's card; a package may state its own."""
    citation: str = ""
    """What to cite when the model is used, for its card; a package may state its own."""
