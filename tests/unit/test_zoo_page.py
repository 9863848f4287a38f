"""The figures and the table of docs/explanation/zoo.md say what the code does."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch

from segem.learn.models.registry import ZOO

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "explanation" / "zoo.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z0-9-]+)` \| ([\d,]+) \| (\d+) \| (\d+) \| (\d+|all) \| (\d+|all) \|$", re.MULTILINE)
TEST = re.compile(r"^def (test_\w+)", re.MULTILINE)


def test_figures_are_what_the_script_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS / "figures")
    figures = importlib.import_module("draw").FIGURES
    assert {path.stem for path in (DOCS / "figures").glob("*.svg")} == set(figures)
    for name, draw in figures.items():
        found = (DOCS / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        assert found == draw().svg(), f"draw {name}.svg anew: python docs/figures/draw.py"
        assert f"(../figures/{name}.svg)" in PAGE


def test_the_table_of_nets_is_true() -> None:
    rows = {name: numbers for name, *numbers in ROW.findall(PAGE)}
    expected = {}
    for name, spec in ZOO.items():
        options = spec.options()
        with torch.device("meta"):
            parameters = sum(p.numel() for p in spec.build(options).parameters())
        shape, field = spec.geometry(options), spec.receptive_field_px(options)
        expected[name] = [
            f"{parameters:,}",
            str(spec.output_stride),
            str(shape.stride_px),
            str(shape.halo_px or "all"),
            str(field or "all"),
        ]
    assert rows == expected


def test_every_row_of_the_comparison_has_its_command() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| [\d,]+ \| (\d*) \|.* \| \d\.\d{4} \|", PAGE, re.M)
    commands = re.findall(r"^\$ZOO --minutes (\d+) --model (\S+)(.*) --out zoo-(\S+)$", PAGE, re.M)
    assert {name for name, minutes in rows if minutes} == set(ZOO)
    assert [(name, minutes) for minutes, name, *_ in commands] == [row for row in rows if row[1]]
    for _, name, options, out in commands:
        assert out == name
        assert options == (" --option width=16" if "width" in ZOO[name].options.model_fields else "")


def test_scores_and_expectations_are_those_of_the_benchmark() -> None:
    made = (DOCS.parent / "benchmarks" / "results" / "zoo.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in made if line.startswith("|")]
    assert len(rows) > len(ZOO)
    assert [row for row in rows if row not in PAGE.splitlines()] == []


def test_the_tests_it_names_exist() -> None:
    tests = DOCS.parent / "tests"
    known = {name for path in tests.rglob("test_*.py") for name in TEST.findall(path.read_text(encoding="utf-8"))}
    named = set(re.findall(r"\btest_\w+(?!\w|\.py)", PAGE))
    assert len(named) > 20
    assert named <= known, named - known
