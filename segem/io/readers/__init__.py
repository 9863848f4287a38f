"""Readers: one file a format, all of them in the table; a path in, a lazy stack of sections out."""

from segem.io.readers.source import fingerprint_files, list_source_files, open_stack, version_of
from segem.io.readers.stack import Stack

__all__ = ["Stack", "fingerprint_files", "list_source_files", "open_stack", "version_of"]
