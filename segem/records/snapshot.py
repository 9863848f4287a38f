"""What a backup of a workspace holds."""

from __future__ import annotations

from segem.records.base import Record


class CopiedFile(Record):
    """One file of a backup."""

    bytes: int
    modified_ns: int
    """When the file was last changed in the workspace, in nanoseconds since 1970."""
    sha256: str


class Snapshot(Record):
    """The content of `snapshot.json`: what was copied, written last of all, so that a backup without it is none."""

    schema_version: int = 1
    created: str
    segem_version: str
    workspace: str
    """Where the workspace was."""
    files: dict[str, CopiedFile]
    """By their paths in the workspace."""
    links: dict[str, str] = {}
    """Symbolic links, and where they point to."""
