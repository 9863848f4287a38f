"""Tables in whatever width there is."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table

PIPE_WIDTH = 110
"""A pipe or a file has no width of its own."""
_BORDER, _AROUND_CELL = 1, 3


def print_table(table: Table) -> None:
    """Print a table; where it does not fit, the cells of each row in lines of their own.

    No number is cut, since ``0.…`` is none, and none is wrapped. Text may go on in the next line.

    Parameters
    ----------
    table : Table
        Cells of plain text; columns of numbers are those that are justified to the right.
    """
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH)
    narrow = [_measure(column) for column in table.columns]
    least = _BORDER + sum(_AROUND_CELL + width for width in narrow)
    if least > console.width:
        _print_lines(table)
        return
    wide = _BORDER + sum(_AROUND_CELL + max(map(cell_len, _texts(column))) for column in table.columns)
    if wide > console.width:
        _share(table.columns, narrow, console.width - least)
    console.print(table)


def _share(columns: Sequence[Column], narrow: Sequence[int], spare: int) -> None:
    """Set the widths of columns: numbers get what they need, and text the spare width in equal parts."""
    texts = sum(column.justify != "right" for column in columns)
    # Those that need least come first, so that what they leave is for the others.
    needs = [max(map(cell_len, _texts(column))) - width for column, width in zip(columns, narrow, strict=True)]
    for need, column, width in sorted(zip(needs, columns, narrow, strict=True), key=lambda each: each[0]):
        more = 0
        if column.justify != "right":
            more, texts = min(need, spare // texts), texts - 1
        column.width, spare = width + more, spare - more


def _texts(column: Column) -> list[str]:
    return [str(column.header), *map(str, column.cells)]


def _measure(column: Column) -> int:
    """Return the least width in which no number is wrapped and no word is cut."""
    words = [cell_len(word) for text in _texts(column) for word in text.split()]
    numbers = [cell_len(text) for text in _texts(column)[1:]] if column.justify == "right" else []
    return max([0, *words, *numbers])


def _print_lines(table: Table) -> None:
    typer.echo(table.title)
    for row in zip(*(column.cells for column in table.columns), strict=True):
        typer.echo()
        for column, cell in zip(table.columns, row, strict=True):
            if cell:
                typer.echo(f"{column.header}: {cell}")
