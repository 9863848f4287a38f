"""Where a source lies, which part of it is meant, and what its axes are."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, GetPydanticSchema, field_validator
from pydantic_core import PydanticCustomError, core_schema

from segem.config.base import Config

AXES = "tczyx"
"""Letters an axis may have: time, channel, section, row, column."""
SCHEMES = ("http", "https", "s3", "gs")
SECRET = "secret"  # noqa: S105 - the name of an error
"""The type of the error about a value that must not be shown."""
_SECRET = re.compile(r"sig|token|secret|passw|credential|auth|key", re.IGNORECASE)


class Url(str):
    """Address of a source that lies elsewhere, by one of `SCHEMES`; it holds no secret, so it may be recorded.

    Examples
    --------
    >>> Url("https://example.org/a.tif?download=1").suffix
    '.tif'
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(unquote(urlsplit(self).path)).name

    @property
    def suffix(self) -> str:
        """The ending of its name, with the dot; empty where there is none."""
        return PurePosixPath(self.name).suffix


def read_source(value: object) -> Path | Url:
    """Tell a path from a URL.

    Parameters
    ----------
    value : object
        A path, or text that may be a URL; one of the scheme ``file`` is the path in it.

    Raises
    ------
    ValueError
        When it is neither, or a URL of another scheme, without a host, or with a password or signature in it.

    Examples
    --------
    >>> read_source("file:///data/a.tif")
    PosixPath('/data/a.tif')
    """
    if isinstance(value, Path):
        # pathlib makes one slash of two, and a path such as "https:/host" would not be found.
        if value.parts and value.parts[0].removesuffix(":") in SCHEMES and value.parts[0].endswith(":"):
            raise ValueError("give a URL as text, not as a Path")
        return value
    if not isinstance(value, str):
        raise ValueError("give a path or a URL")  # noqa: TRY004 - pydantic catches these
    if "://" not in value:
        return Path(value)
    parts = urlsplit(value)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise ValueError(f"a URL begins with {', '.join(f'{scheme}://' for scheme in SCHEMES)} and a host, or file:///")
    if "@" in parts.netloc or any(_SECRET.search(key) for key, _ in parse_qsl(parts.query, keep_blank_values=True)):
        # Of a type of its own, so that the value is not shown.
        raise PydanticCustomError(SECRET, "a URL must hold no password, key or signature, since it is recorded")
    return Url(value.partition("#")[0].rstrip("/"))


Source = Annotated[
    Path | Url,
    GetPydanticSchema(
        lambda _source, _handler: core_schema.no_info_plain_validator_function(
            read_source,
            json_schema_input_schema=core_schema.str_schema(metadata={"pydantic_js_updates": {"format": "path"}}),
            serialization=core_schema.plain_serializer_function_ser_schema(
                str, return_schema=core_schema.str_schema(), when_used="json"
            ),
        )
    ),
]
"""A path or a URL."""


def place_source(source: Path | Url, root: Path) -> Path | Url:
    """Return a source with a relative path counted from a folder; a URL as it is.

    Examples
    --------
    >>> place_source(Path("a.tif"), Path("/data"))
    PosixPath('/data/a.tif')
    """
    return source if isinstance(source, Url) else root / source


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
