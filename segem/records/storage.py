"""Where the arrays of a workspace lie, if not in it."""

from __future__ import annotations

from segem.records.base import Record


class StorageRecord(Record):
    """The content of `storage.json`, in the workspace: which storage it uses, and as which of its owners."""

    schema_version: int = 1
    url: str
    """``s3://bucket/prefix``; it holds no credentials."""
    claim: int
    """Number of the claim by which the workspace owns what lies there; a later one has taken it over."""


class Claim(Record):
    """One owner of a storage; claims are numbered objects that are never replaced, and the last one counts."""

    schema_version: int = 1
    host: str
    workspace: str
    """Its path there."""
    since: str
    """In UTC."""
    token: str
    """Tells it from a claim that another process of the same host made at the same moment."""
