"""Readers: one file a format, all of them in the table; a path in, a lazy stack of sections out."""

from segem.io.readers.pairing import open_labels
from segem.io.readers.source import fingerprint_files, list_source_files, open_stack, version_of
from segem.io.readers.stack import Stack

__all__ = ["Stack", "fingerprint_files", "list_source_files", "open_labels", "open_stack", "version_of"]
