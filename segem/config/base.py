"""What every configuration has in common."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base of every configuration: frozen, strict about keys, hashable by content.

    The docstring of a setting is shown to users too: in --help, in error messages, and where Prefect asks for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def config_hash(self) -> str:
        """Return the sha256 of the configuration's canonical JSON, as 64 hexadecimal digits."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
