"""What commands print, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from segem.cli.show import exit_code_of, show, show_promotion
from segem.errors import InputError
from segem.records.card import Score


@dataclass(frozen=True)
class Made:
    path: Path
    shape: tuple[int, int]
    scores: tuple[Score, ...]
    nothing: str | None = None


MADE = Made(Path("m"), (2, 3), (Score(volume="isbi", sections=(18, 24), iou=0.7, v_rand=0.95, v_info=None),))


def test_results_are_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    show(MADE, as_json=False, run="r")
    assert capsys.readouterr().out.splitlines() == [
        "run: r",
        "path: m",
        "shape: (2, 3)",
        "scores: volume isbi, sections (18, 24), iou 0.7, v_rand 0.95, v_info None, ece None",
    ]


def test_results_are_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    show(MADE, as_json=True)
    values = json.loads(capsys.readouterr().out)
    assert values["path"] == "m"
    assert values["scores"][0]["sections"] == [18, 24]


def test_an_error_is_one_line_and_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise InputError("broken\nfile", where="a.tif", fix="mend it")

    assert exit_code_of(fail) == 1
    assert capsys.readouterr().err == "error: a.tif: broken file. Fix: mend it\n"


def test_a_model_beside_an_older_version_of_its_own_is_told_from_it(capsys: pytest.CaptureFixture[str]) -> None:
    judged = {"volume": "v", "sections": [3, 4], "blocks": 16, "harm": ""}
    numbers = dict.fromkeys(("iou_against", "iou_candidate", "difference", "low", "high"), 0.5)
    values = {"name": "mine", "against": {"name": "mine"}, "gate": {"confidence": 0.95}, "judged": [judged | numbers]}
    show_promotion(values | {"promoted": True, "forced": False, "version": "2"}, as_json=False)
    out = capsys.readouterr().out
    assert "membrane IoU of mine beside mine (before), on" in out


def test_an_unexpected_error_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(lambda: 1 / 0) == 1
    assert capsys.readouterr().err.startswith("error: unexpected ZeroDivisionError: division by zero. Fix: ")
