"""Readers: one file a format, all of them in the table; a path in, a lazy stack of sections out."""

from segem.io.readers.source import list_source_files, open_stack
from segem.io.readers.stack import Stack
from segem.io.readers.table import READER_VERSION

__all__ = ["READER_VERSION", "Stack", "list_source_files", "open_stack"]
