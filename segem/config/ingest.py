"""How a source becomes a volume."""

from __future__ import annotations

import math
import re
from typing import Any, Literal, get_args

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from segem.config.names import Name
from segem.config.source import Selection, Source
from segem.errors import ConfigError
from segem.geometry import ZYX, Box, VoxelSize

Words = Literal["zero", "nonzero", "borders"]
Polarity = Words | int | tuple[int, ...]
ZeroMeans = Literal["membrane", "membrane_with_border", "outside_cells", "background", "unknown"]

_WHOLE = re.compile(r"[-+]?[0-9]{1,20}")
_LEAST, _MOST = -(2**63), 2**64 - 1
"""What a pixel of 64 bits can hold, with and without sign."""


class LabelSource(Selection):
    """Where ground truth comes from, and which of its values mean membrane."""

    source: Source
    """Ground truth: a stack of the same shape, or one that says where in the image it lies; a path or a URL."""
    membrane: Polarity
    """Which values mean membrane: ``zero``, ``nonzero``, one value, or several as 0,32,64; ``borders`` where the values
    number the cells. Never guessed."""
    border_nm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """With ``borders``: width of the membrane between two cells that touch, in nanometres."""
    zero_means: ZeroMeans | None = None
    """With ``borders``: what 0 is: ``membrane``; ``membrane_with_border``, where cells have a border with it too;
    ``outside_cells``, which has a border like a cell; ``background``, which has none; or ``unknown``."""
    dataset: str | None = None
    """Path of the ground truth inside an HDF5 file, Zarr store or N5 container."""
    unwritten: Literal["fail", "fill"] = "fail"
    """What is done about parts of the ground truth that were never written: fail, or take them for the fill value."""
    ignore: int | tuple[int, ...] | None = None
    """Pixel value, or several as 128,255, that means not labelled; such pixels are left out of training and scores."""
    unpainted: Literal["labelled", "unknown"] = "labelled"
    """What label sections of one single value are: ``labelled``, with what the value means, or ``unknown``, because
    nobody has painted them."""

    @field_validator("membrane", mode="before")
    @classmethod
    def _words_or_values(cls, value: Any) -> Any:
        if isinstance(value, str) and value in get_args(Words):
            return value
        words = ", ".join(get_args(Words))
        return _read_values(value, f"must be {words}, a whole number or several of them, as 0,32,64")

    @field_validator("ignore", mode="before")
    @classmethod
    def _values(cls, value: Any) -> Any:
        return None if value is None else _read_values(value, "must be a whole number or several of them, as 128,255")

    @model_validator(mode="after")
    def _borders_are_described(self) -> LabelSource:
        for key in ("border_nm", "zero_means"):
            given = getattr(self, key) is not None
            if given and self.membrane != "borders":
                raise ValueError(f"{key} is for labels that number the cells (membrane: borders)")
            if not given and self.membrane == "borders":
                raise ValueError(f"membrane: borders needs {key} ({_description(key)})")
        return self

    @model_validator(mode="after")
    def _ignored_is_another(self) -> LabelSource:
        if self.membrane == "borders":
            if 0 in self.ignored and self.zero_means != "unknown":
                raise ValueError(f"0 cannot both be ignored and mean {self.zero_means}; give zero_means: unknown")
            return self
        both = sorted(set(self.ignored) & set(self.values or ()))
        if both:
            raise ValueError(f"the value to ignore, {both[0]}, is one that means membrane; give different values")
        if self.membrane == "nonzero" and 0 in self.ignored:
            raise ValueError("to ignore 0 where nonzero means membrane leaves nothing that is not membrane")
        return self

    @property
    def values(self) -> tuple[int, ...] | None:
        """The values that mean membrane; None where that is not said by values."""
        if isinstance(self.membrane, str):
            return (0,) if self.membrane == "zero" else None
        return (self.membrane,) if isinstance(self.membrane, int) else self.membrane

    @property
    def ignored(self) -> tuple[int, ...]:
        """The values that mean not labelled."""
        if self.ignore is None:
            return ()
        return (self.ignore,) if isinstance(self.ignore, int) else self.ignore


def _description(key: str) -> str:
    said = LabelSource.model_fields[key].description or ""
    return " ".join(said.split()).replace("`", "").removeprefix("With borders: ").rstrip(".")


def _read_values(value: Any, expected: str) -> int | tuple[int, ...]:
    """Return one value as a number and several as a tuple, as they are typed or stand in a file."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        parts = (parts,)
    values = tuple(dict.fromkeys(_read_value(part, expected) for part in parts))
    if not values:
        raise ValueError(expected)
    return values if len(values) > 1 else values[0]


def _read_value(value: Any, expected: str) -> int:
    # Digits of other scripts are digits to Python too.
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        value = int(value)
    if not isinstance(value, int):
        raise ValueError(expected)  # noqa: TRY004 - pydantic catches these
    if not _LEAST <= value <= _MOST:
        raise ValueError(f"no pixel can hold {value}")
    return value


class IngestConfig(Selection):
    """How one source becomes one OME-Zarr volume."""

    name: Name
    """Name of the volume."""
    source: Source
    """TIFF, folder of TIFF or PNG sections, HDF5, NumPy file, OME-Zarr, N5 or Neuroglancer volume: a path, or a URL of
    http, https, s3 or gs."""
    voxel_nm: tuple[float, float, float] | None = None
    """Voxel size in nanometres along (z, y, x); not needed where the source states it, and compared with what it
    states."""
    trust_voxel: bool = False
    """Take the voxel size as it is, even where the source states another or it looks wrong for tissue."""
    labels: LabelSource | None = None
    """Ground truth, if there is any."""
    second_labels: LabelSource | None = None
    """What a second person labelled of the same sections: a report shows how well both agree, as the ceiling of every
    score. Nothing is trained or scored on it."""
    box: str | None = None
    """Part of the source to read, as z0:z1,y0:y1,x0:x1; a side left out is where the source ends."""

    window: tuple[float, float] | None = None
    """Lowest and highest intensity that count, as LOW,HIGH; what is beyond is clipped. Found from the data when
    absent."""

    @field_validator("window")
    @classmethod
    def _ascending(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not -math.inf < value[0] < value[1] < math.inf:
            raise ValueError(f"a window is two intensities, the lower one first, found {value[0]:g},{value[1]:g}")
        return value

    @field_validator("voxel_nm")
    @classmethod
    def _positive(cls, value: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if value is not None:
            try:
                VoxelSize(*value)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return value

    @field_validator("box")
    @classmethod
    def _three_ranges(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"(\d*:\d*,){2}\d*:\d*", value):
            raise ValueError(f"a box is z0:z1,y0:y1,x0:x1 in voxels, as 0:10,:,512:1024, found {value!r}")
        return value

    @model_validator(mode="after")
    def _second_follows_first(self) -> IngestConfig:
        if self.second_labels is not None and self.labels is None:
            raise ValueError("second_labels are compared with labels, and there are none")
        return self

    @model_serializer(mode="wrap")
    def _as_before_without_second(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Volumes and runs that were made before there were second labels keep their hashes.
        settings: dict[str, Any] = serialize(self)
        if settings.get("second_labels", ...) is None:
            del settings["second_labels"]
        return settings

    def box_within(self, shape: ZYX) -> Box:
        """Return the part of a source of this shape that is to be read.

        Examples
        --------
        >>> config = IngestConfig(name="a", source="a.tif", voxel_nm=(50, 4, 4), box="2:4,:,8:")
        >>> config.box_within((10, 20, 30))
        Box(start=(2, 0, 8), stop=(4, 20, 30))
        """
        if self.box is None:
            return Box.of_shape(shape)
        sides = [side.split(":") for side in self.box.split(",")]
        (z0, z1), (y0, y1), (x0, x1) = (
            (int(start or 0), int(stop or n)) for (start, stop), n in zip(sides, shape, strict=True)
        )
        return Box((z0, y0, x0), (z1, y1, x1))
