"""How a function becomes a command: its options, its examples, and what it says when Ctrl-C stops it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TypeVar

import typer

from segem.cli.exits import StoppedError
from segem.cli.options import expanded

F = TypeVar("F", bound=Callable[..., None])

RESUMES = "; finished blocks are kept. Fix: repeat the command to continue, on another day with --run and its name"

RESUMES_TRAINING = "; the training so far is kept. Fix: repeat the command to continue"


@dataclass(frozen=True)
class Theme:
    """Commands of one theme.

    Parameters
    ----------
    panel : str
        Title that `segem --help` shows them by; empty for those of a group of their own.
    app : Typer
        Where they are registered.
    """

    panel: str
    app: typer.Typer

    def command(self, name: str, *examples: str, stopped: str = "") -> Callable[[F], F]:
        """Return a decorator that registers a function as ``segem NAME``.

        Parameters
        ----------
        name : str
            Name of the command, with that of its group.
        *examples : str
            Lines that ``--help`` shows; the rest of the help is the docstring of the function.
        stopped : str
            What is kept when Ctrl-C stops the command, and what to do then.
        """

        def register(function: F) -> F:
            run = expanded(function, f"segem {name}")

            @wraps(run)
            def stoppable(**given: object) -> None:
                try:
                    run(**given)
                except KeyboardInterrupt:
                    raise StoppedError(f"stopped by Ctrl-C{stopped}") from None

            shown = ", ".join(f"`{example}`" for example in examples)
            command = self.app.command(name.split()[-1], epilog=f"Example: {shown}", rich_help_panel=self.panel or None)
            command(stoppable)
            return function

        return register
