"""What identifies a block, as far as it is code: placeholder until the walk through imports is there."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path


@cache
def code_digest(start: str) -> str:
    """Return the sha256 of the source of a module."""
    spec = importlib.util.find_spec(start)
    return hashlib.sha256(Path(str(spec.origin)).read_bytes() if spec else b"").hexdigest()
