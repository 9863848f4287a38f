"""Tables in narrow terminals: every number is there, whole."""

from __future__ import annotations

import re

import pytest
from rich.table import Table

from segem.cli.tables import PIPE_WIDTH, print_table

ROWS = [
    ("unet-em", "a net of the zoo, for all kinds of tissue", "0.7134", "31,030,658"),
    ("deeplab-v3-resnet101-of-monday", "another one", "0.6021", "1,234"),
]


def make_table() -> Table:
    table = Table(title="models")
    for column in ("name", "what it is"):
        table.add_column(column)
    for column in ("membrane IoU", "parameters"):
        table.add_column(column, justify="right")
    for row in ROWS:
        table.add_row(*row)
    return table


@pytest.mark.parametrize("width", [20, 40, 56, 66, 80, 100, 200])
def test_no_number_is_cut(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(make_table())
    out = capsys.readouterr().out
    assert "…" not in out
    for *_, iou, parameters in ROWS:
        assert iou in out
        assert parameters in out
    if width >= 66:
        assert max(map(len, out.splitlines())) <= width


def test_what_does_not_fit_is_said_line_by_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table(make_table())
    assert capsys.readouterr().out.splitlines() == [
        "models",
        "",
        "name: unet-em",
        "what it is: a net of the zoo, for all kinds of tissue",
        "membrane IoU: 0.7134",
        "parameters: 31,030,658",
        "",
        "name: deeplab-v3-resnet101-of-monday",
        "what it is: another one",
        "membrane IoU: 0.6021",
        "parameters: 1,234",
    ]


def test_text_gives_way_before_numbers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "75")
    print_table(make_table())
    out = capsys.readouterr().out
    assert re.search(r"unet-em .* a net .* 0\.7134 .* 31,030,658", out)
    assert "zoo, for all" in out
    assert ROWS[1][0] in out


def test_a_pipe_has_a_width_of_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(make_table())
    assert max(map(len, capsys.readouterr().out.splitlines())) <= PIPE_WIDTH
