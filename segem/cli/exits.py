"""How a command ends: its exit code, and one line for what failed."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import typer

from segem.cli.streams import OutputError
from segem.errors import SegemError
from segem.progress import tell

INTERRUPTED = 130
"""Exit code of a command that the user stopped, by the convention of shells."""


class StoppedError(SegemError):
    """Ctrl-C; the message says what is kept."""


def complain(faults: Iterable[tuple[str, str]]) -> None:
    """Print one error line for each volume and what is wrong with it, and exit with code 1 if there is any.

    Raises
    ------
    typer.Exit
        When there was a fault.
    """
    if [_fail(f"{volume}: {what}", 1) for volume, what in faults]:
        raise typer.Exit(1)


def refuse(message: str) -> NoReturn:
    """Print an error that was kept as one line, and exit with code 1.

    Raises
    ------
    typer.Exit
        Always.
    """
    raise typer.Exit(_fail(message, 1))


def exit_code_of(command: Callable[[], Any]) -> int:
    """Run a command and return its exit code; a failure is one line on stderr.

    Examples
    --------
    >>> exit_code_of(lambda: None)
    0
    """
    try:
        code = command()
        sys.stdout.flush()
    except SegemError as error:
        return _fail(str(error), INTERRUPTED if isinstance(error, StoppedError) else 1)
    except typer.TyperException as error:
        # Without a message, the help itself was the answer and has been printed.
        return _fail(f"{_say_plainly(error.format_message())} See `{_help_of(error)}`.", 2) if str(error) else 2
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except OutputError as error:
        # Whoever read the output may have seen enough (| head); nobody has to be told that.
        if error.errno == errno.EPIPE:
            return 1
        return _fail(f"stdout: the output cannot be written; found {error.strerror}. Fix: send it elsewhere", 1)
    except Exception as error:
        if os.environ.get("SEGEM_DEBUG"):
            raise
        return _fail(f"unexpected {type(error).__name__}: {error}. Fix: set SEGEM_DEBUG=1 and report the traceback", 1)
    if code == INTERRUPTED:
        # typer turns Ctrl-C into this code and prints nothing.
        return _fail("stopped by Ctrl-C", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _help_of(error: typer.TyperException) -> str:
    """Return what prints the help of the command whose arguments were wrong."""
    words, context = ["--help"], getattr(error, "ctx", None)
    # Not by the path of the command: its beginning is how segem was called, which may be `python -m segem`.
    while context is not None and context.parent is not None:
        words.insert(0, context.info_name)
        context = context.parent
    return " ".join(["segem", *words])


def _say_plainly(message: str) -> str:
    """Return the message of a parser without its own words."""
    plain = re.sub(r"Input should be a valid (integer|number), unable to parse .*", r"must be a \1", message)
    plain = plain.replace("a integer", "a whole number").replace("Value error, ", "")
    return plain if plain.endswith((".", "?", "!")) else f"{plain}."


def _fail(message: str, code: int) -> int:
    tell(f"error: {' '.join(message.split())}")
    return code
