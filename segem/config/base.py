"""What every configuration has in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Config(BaseModel):
    """Base of every configuration: frozen, strict about keys, hashable by content.

    The docstring of a setting is shown to users too: in --help, in error messages, and where Prefect asks for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, values: Any) -> Any:
        # In Python true is 1, so pydantic takes it for a number.
        for key, value in values.items() if isinstance(values, dict) else ():
            truths = any(isinstance(one, bool) for one in (value if isinstance(value, (list, tuple)) else (value,)))
            if truths and key in cls.model_fields and not _takes_truth(cls.model_fields[key].annotation):
                raise ValueError(f"{key} must not be true or false")
        return values

    def config_hash(self) -> str:
        """Return the sha256 of the configuration's canonical JSON, as 64 hexadecimal digits."""
        return hash_of(self)


def hash_of(config: Config, without: Mapping[str, Any] | None = None) -> str:
    """Return the sha256 of a configuration's canonical JSON.

    Parameters
    ----------
    config : Config
        The settings.
    without : mapping, optional
        Settings that are left out, as pydantic's ``exclude`` takes them.
    """
    values = config.model_dump(mode="json", exclude=dict(without or {}))
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _takes_truth(annotation: Any) -> bool:
    return annotation is bool or any(_takes_truth(each) for each in get_args(annotation))
