"""Tables in markdown, and sentences that fit into them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; nothing without rows."""
    lines = [_row(row) for row in rows]
    return "\n".join([_row(head), "|" + "---|" * len(head), *lines, ""]) if lines else ""


def one_line(text: str | None) -> str:
    """Return a text as one line; code in double backticks, as docstrings have it, in single ones."""
    return " ".join((text or "").split()).replace("``", "`")


def first_sentence(text: str | None) -> str:
    """Return the first sentence of a docstring."""
    return one_line((text or "").split("\n\n")[0]).split(". ")[0].rstrip(".") + "."


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
