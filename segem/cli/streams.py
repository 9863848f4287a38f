"""The streams of a command: what they cannot show, and what is done where nobody can be told anything."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from contextlib import suppress
from typing import Any

PLAIN = "segem-plain"
"""Name of the error handler that replaces what an encoding lacks."""


class OutputError(OSError):
    """What is written to stdout does not arrive: its disk is full, or whoever read it has gone."""


class _Output(io.FileIO):
    """Stdout, whose errors can be told from those of other files."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from None


def set_up_streams() -> None:
    """Make stdout and stderr take every text, whatever their encoding, and be there at all.

    A character that the encoding lacks becomes its ASCII equivalent where it has one of the same width, and a question
    mark otherwise; tables have ASCII borders there, which rich sees to.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            # Closed by the caller (>&-). The next file to be opened would get its number, and what a library prints
            # would end up in that file.
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(nowhere, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115
        elif stream is sys.__stdout__ and sys.__stdout__ is not None:
            output = io.BufferedWriter(_Output(descriptor, "w", closefd=False))
            sys.stdout = io.TextIOWrapper(output, sys.__stdout__.encoding, PLAIN, line_buffering=output.isatty())
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN)


def discard_unwritten() -> None:
    """Drop what stdout and stderr cannot write, which Python would try again when it ends, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            # Streams of tests have no descriptor.
            with suppress(OSError, ValueError):
                descriptor = os.open(os.devnull, os.O_WRONLY)
                os.dup2(descriptor, stream.fileno())
                os.close(descriptor)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    """Return the ASCII character that stands for another one.

    Examples
    --------
    >>> "".join(map(_plain, "ş²\u2013…\u2502"))
    's2-??'
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", character) if c.isascii())
    dash = unicodedata.category(character) == "Pd"
    return "-" if dash else plain if len(plain) == 1 else "?"


codecs.register_error(PLAIN, _replace)
