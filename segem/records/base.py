"""What every record has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, computed_field, model_validator

if TYPE_CHECKING:
    computed = property
else:
    # A property that is also written. mypy rejects decorators above a property, so it sees the property alone.
    computed = computed_field


class Record(BaseModel):
    """Base of every record: frozen, strict about keys, and equal to itself once written and read back."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        serialize_by_alias=True,
        validate_by_alias=True,
        validate_by_name=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_computed(cls, values: Any) -> Any:
        # Computed fields are written for people and scripts; on reading they follow from the others.
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if key not in cls.model_computed_fields}
