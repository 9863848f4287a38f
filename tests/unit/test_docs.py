"""The project's papers point at things that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from segem.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAPERS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "data").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def dead_links(text: str, folder: Path) -> list[str]:
    return [target for target in LINK.findall(text) if not (folder / target).exists()]


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "here.md").touch()
    assert dead_links("[a](here.md) [b](here.md#part) [c](gone.md) [d](https://x.org/y)", tmp_path) == ["gone.md"]


def test_the_papers_are_found() -> None:
    assert {"README.md", "architecture.md", "SECURITY.md"} <= {path.name for path in PAPERS}


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(paper: Path) -> None:
    assert dead_links(paper.read_text(encoding="utf-8"), paper.parent) == []


CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
# "segem run MANIFEST.yaml [--run R]", at the start of a line of code.
CALL = re.compile(r"^`?segem ([a-z][^`#\n]*)", re.MULTILINE)


def calls(text: str) -> list[tuple[str, set[str]]]:
    """Return every command a text shows, with the options it gives it: ("run", {"--data-root"})."""
    found = []
    for line in CALL.findall("\n".join(CODE.findall(text))):
        words = re.findall(r"--[a-z-]+|[a-z]+(?:-[a-z]+)*", line)
        name = " ".join(words[:2]) if words[0] == "models" else words[0]
        found.append((name, {word for word in words if word.startswith("--")}))
    return found


def options() -> dict[str, set[str]]:
    """Return the options of every command there is."""
    root = typer.main.get_command(app)
    commands: dict[str, Any] = {}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        commands |= {f"{name} {n}": c for n, c in below.items()} if below else {name: command}
    return {name: {o for p in command.params for o in p.opts} | {"--help"} for name, command in commands.items()}


def wrong_calls(text: str) -> list[str]:
    known = options()
    return [
        f"segem {name} {sorted(given)}"
        for name, given in calls(text)
        if not given <= known.get(name, set()) or name not in known
    ]


def test_a_wrong_call_is_found() -> None:
    block = "```\nsegem models list\nsegem fly  # so\n```"
    text = f"segem is.\n{block}\n`segem run M [--data-root D]`, `segem run --up`, `segem models burn`"
    assert wrong_calls(text) == ["segem fly []", "segem run ['--up']", "segem models burn []"]


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_shown_exist(paper: Path) -> None:
    assert wrong_calls(paper.read_text(encoding="utf-8")) == []


def test_the_readme_shows_every_command() -> None:
    shown = {name for name, _ in calls((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert shown >= set(options())


def test_every_command_takes_the_options_the_readme_promises() -> None:
    taken = options()
    assert [name for name, known in taken.items() if "--json" not in known] == []
    assert [name for name, known in taken.items() if "--workspace" not in known] == ["synth"]
