"""The commands as a whole: what they take, what they say of it, and how it is written."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from segem.cli import app

ROOT = Path(__file__).resolve().parents[3]

RELIED_ON = {
    "demo": "verbose",
    "run": "data-root device engine memory replace run verbose workers",
    "ingest": "again dataset ignore labels labels-dataset membrane name replace voxel-nm",
    "inspect": "axes box channel dataset ignore labels labels-dataset membrane name picture voxel-nm",
    "baseline": "method replace run seed sigma-px",
    "segment": (
        "device engine halo-px memory model overlap replace run runtime stitch threshold tile-px views workers"
    ),
    "crf": "engine halo-px iterations memory of replace run sa-px sb-grey sg-px threshold tile-px w1 w2 workers",
    "cells": "engine merge-below of replace sigma-px workers",
    "synth": "seed shape",
    "evaluate": "",
    "report": "",
    "verify": "device engine repair workers",
    "export": "force",
    "train": (
        "batch checkpoint-seconds citation context-sections data-root deep-supervision defects device freeze "
        "from learning-rate licence minutes model option out pretrained rehearse remember replace seed share "
        "steps"
    ),
    "models list": "measure",
    "models show": "",
    "models calibrate": "choose-threshold data-root device out",
    "models promote": "against data-root device force harm",
    "models export": "author force licence",
    "models import": "citation licence model option out threshold",
    "retrain": (
        "against batch citation data-root deep-supervision defects device force freeze from harm learning-rate "
        " licence minutes model out rehearse remember replace seed share steps verbose"
    ),
    "learning-curve": (
        "batch checkpoint-seconds data-root device from minutes model more option out seed seeds steps worthwhile"
    ),
    "label-next": "data-root device of",
    "purge": "dry-run older-than reviewed yes",
    "backup": "keep",
    "restore": "",
    "doctor": "",
    "bench": "device model shape size",
    "data list": "",
    "data get": "to",
}
"""Options that scripts use, by command; --json and --workspace beside them."""


def commands() -> dict[str, Any]:
    """Return every command by its name."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        found |= {f"{name} {n}": c for n, c in below.items()} if below else {name: command}
    return found


COMMANDS = commands()


@pytest.mark.parametrize("name", sorted(RELIED_ON))
def test_options_that_scripts_rely_on_are_there(name: str) -> None:
    known = {flag for parameter in COMMANDS[name].params for flag in parameter.opts}
    assert {f"--{option}" for option in RELIED_ON[name].split()} <= known


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_argument_and_option_is_explained(name: str) -> None:
    assert [p.name for p in COMMANDS[name].params if not (p.help or "").strip()] == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_option_is_explained_like_another(name: str) -> None:
    texts = [parameter.help for parameter in COMMANDS[name].params]
    assert len(set(texts)) == len(texts)


def functions(folder: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


@pytest.mark.parametrize("folder", ["segem/cli", "segem/config", "flows"])
def test_no_function_takes_more_than_8_parameters(folder: str) -> None:
    counts = {
        name: len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]) for name, node in functions(folder)
    }
    assert {name: count for name, count in counts.items() if count > 8} == {}


def test_a_default_that_says_something_stands_in_a_configuration() -> None:
    said = [
        f"{name}: {ast.unparse(default)}"
        for name, node in functions("segem/cli")
        if any("command" in ast.unparse(decorator) for decorator in node.decorator_list)
        for default in [*node.args.defaults, *node.args.kw_defaults]
        if default is not None and not (isinstance(default, ast.Constant) and default.value in (None, False, ""))
    ]
    assert said == []
