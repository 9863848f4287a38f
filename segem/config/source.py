"""Which part of a source is meant, and what its axes are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from segem.config.base import Config

AXES = "tczyx"
"""Letters an axis may have: time, channel, section, row, column."""


class Selection(Config):
    """Which array of a source is read, and what its axes mean where the source does not say."""

    dataset: str | None = None
    """Path of the array inside an HDF5 file, Zarr store or N5 container."""
    axes: str | None = None
    """What each axis of the array is, first to last, for example zcyx (t time, c channel); not needed where the
    source says so."""
    channel: int | None = Field(default=None, ge=0)
    """Channel to read, counted from 0; needed where there are several."""
    unwritten: Literal["fail", "fill"] = "fail"
    """What is done about parts of an array that were never written: fail, or take them for the array's fill value."""
    missing: Literal["fail", "copy", "black", "mask"] = "fail"
    """What stands in for sections missing from a numbered series: nothing (fail), the nearest one before (copy), black,
    or black that no score counts (mask)."""

    @field_validator("axes")
    @classmethod
    def _known_letters(cls, value: str | None) -> str | None:
        if value is not None and (
            set(value) - set(AXES) or len(set(value)) < len(value) or not {"y", "x"} <= set(value)
        ):
            raise ValueError(f"axes are different letters of {AXES}, y and x among them, found {value!r}")
        return value
