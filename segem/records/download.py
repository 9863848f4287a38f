"""What was downloaded of a public data set, ``NAME.json`` beside its folder."""

from __future__ import annotations

from typing import Literal

from segem.records.base import Record


class DownloadedFile(Record):
    """One file as it came from its publisher."""

    name: str
    size_bytes: int
    checksum: str
    """As in ``sha256:...``; a later download of the file must have it."""
    known: bool
    """Whether the checksum was known before, or is that of the first download."""


class Download(Record):
    """The content of ``NAME.json``: where a set is from, its terms, and the checksums of what was downloaded."""

    schema_version: Literal[1] = 1
    name: str
    licence: str
    cite: tuple[str, ...]
    files: tuple[DownloadedFile, ...]
