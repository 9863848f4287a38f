"""The page of the commands, from the command line itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from tables import first_sentence, one_line, table

from segem.cli import app

INTRODUCTION = """\
# Commands

*Written by `python docs/reference/generate/pages.py` from the command line itself, which says the same by `--help`.*

**Workspace.** Volumes, runs and models lie in one folder: `--workspace DIR`, or the variable `SEGEM_WORKSPACE`, or
`./workspace`.

**Runs.** A run without `--run` gets a name, which is printed: after the manifest, the day and the settings, or, for a
single step, after the volume and the day. The same command resumes. To resume on another day, give the printed name by
`--run`. One process works on a run at a time; a second one is refused.

**Nothing is replaced by surprise.** A command that asks for another model, other settings or another method under the
name of a run that holds results is refused and told what differs. Give another `--run`, or `--replace` to lose what is
there. Changed data or a new version of segem need no `--replace`.

**Exit codes.** 0 means success and nothing else does. An error is one line on stderr that says what to do. `segem run`,
`segem report`, `segem evaluate` and `segem verify` end with 1 when a volume is not whole, after they have printed or
written what there is. `segem retrain` and `segem models promote` end with 1 when a model is kept aside.

**JSON.** `--json` prints results as JSON.
"""


def command_page() -> str:
    """Return the page."""
    commands = dict(_commands(typer.main.get_command(app), "segem"))
    rows = [(f"[`{name}`](#{name.replace(' ', '-')})", first_sentence(one.help)) for name, one in commands.items()]
    parts = [INTRODUCTION, table(("command", "what it does"), rows), *(_section(*one) for one in commands.items())]
    return "\n".join(parts).rstrip() + "\n"


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every command with its whole name, those of groups too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        elif not command.hidden:
            yield f"{path} {name}", command


def _section(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.params:
        said = parameter.get_help_record(context)
        if said is None:
            continue
        argument = parameter.param_type_name == "argument"
        panel = getattr(parameter, "rich_help_panel", None) or ("Arguments" if argument else "Options")
        panels.setdefault(panel, []).append((f"`{one_line(said[0])}`", one_line(said[1])))
    usage = command.get_usage(context).removeprefix("Usage: ")
    parts = [f"## {name}\n", f"```\n{one_line(usage)}\n```\n", _paragraphs(command.help)]
    parts += [_paragraphs(command.epilog)] if command.epilog else []
    parts += [table((panel.lower(), ""), rows) for panel, rows in panels.items()]
    return "\n".join(parts)


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(one_line(part) for part in (text or "").split("\n\n")) + "\n"
