"""Writes the reference that says what the code says: commands, keys of a manifest, functions of Python, a JSON schema.

    .venv/bin/python docs/reference/generate/pages.py

A test fails when one of these pages is not what this script writes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from command_page import command_page
from files_page import files_page
from manifest_page import manifest_page
from python_page import python_page
from schema_file import schema_file

PAGES: dict[str, Callable[[], str]] = {
    "commands.md": command_page,
    "files.md": files_page,
    "manifest.md": manifest_page,
    "python.md": python_page,
    "report.schema.json": schema_file,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (Path(__file__).parents[1] / name).write_text(page(), encoding="utf-8")
