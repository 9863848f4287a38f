"""What commands print, for people and for programs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from segem.cli.show import show, show_promotion, show_scores
from segem.config import GateConfig
from segem.records.card import HeldOutScore
from segem.records.promotion import DifferenceInterval, Incumbent, Judgement, Promotion, ScorePair
from segem.records.scores import Baseline, LayerScores, Report, Scores, VolumeScores


@dataclass(frozen=True)
class Made:
    path: Path
    shape: tuple[int, int]
    scores: tuple[HeldOutScore, ...]
    warnings: tuple[str, ...] = ("dark", "torn")
    nothing: str | None = None


MADE = Made(
    Path("m"), (2, 3), (HeldOutScore(volume="isbi", sections=(18, 24), iou=0.7, v_rand=0.95, v_info=None, ece=None),)
)


def test_results_are_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    show(MADE, as_json=False, run="r")
    assert capsys.readouterr().out.splitlines() == [
        "run: r",
        "path: m",
        "shape: (2, 3)",
        "scores: volume isbi, sections (18, 24), iou 0.7, v_rand 0.95, v_info None, ece None",
        "warnings: dark",
        "warnings: torn",
    ]


def test_results_are_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    show(MADE, as_json=True)
    values = json.loads(capsys.readouterr().out)
    assert values["path"] == "m"
    assert values["scores"][0]["sections"] == [18, 24]


def judged(**changes: Any) -> Judgement:
    values = {
        "candidate_calibrated_on": (),
        "incumbent_calibrated_on": (),
        "iou": ScorePair(candidate=0.5, incumbent=0.25),
        "iou_interval": DifferenceInterval(low=0.125, high=0.375, lower_bound=0.25, blocks=16),
        "v_rand": ScorePair(candidate=0.875, incumbent=0.75),
        "v_info": None,
        "v_rand_interval": None,
    }
    return Judgement(volume="v", source_digest="", sections=(3, 4), **(values | changes))


def decided(against: str | None, **changes: Any) -> Promotion:
    values = {"promoted": True, "forced": False, "reason": "", "judged": (judged(),)} | changes
    return Promotion(
        name="mine",
        version="2",
        digest="",
        incumbent=Incumbent(name=against, path="", digest="") if against else None,
        gate=GateConfig(),
        manifest="",
        who="",
        when="",
        segem_version="",
        **values,
    )


def test_a_model_beside_an_older_version_of_its_own_is_told_from_it(capsys: pytest.CaptureFixture[str]) -> None:
    show_promotion(decided("mine"), as_json=False)
    out = capsys.readouterr().out
    assert "mine beside mine (before)" in out
    assert "promoted: mine now refers to version 2\n" in out
    rows = [[part.strip() for part in re.split("[\u2502\u2503]", line)[1:-1]] for line in out.splitlines()]
    assert [row for row in rows if row][1:] == [
        ["v", "IoU", "3", "16", "0.2500", "0.5000", "+0.2500", "+0.1250 to +0.3750", "yes"],
        ["", "V_rand", "", "-", "0.7500", "0.8750", "+0.1250", "-", ""],
        ["", "V_info", "", "-", "-", "-", "-", "-", ""],
    ]


@pytest.mark.parametrize(
    ("against", "changes", "said"),
    [
        ("old", {}, ["Neither model was trained on these sections or had its threshold chosen on them."]),
        (None, {}, ["mine was not trained on these sections, nor was its threshold chosen on them."]),
        (
            "old",
            {"unknown_origin": ("incumbent",)},
            [
                "mine was not trained on these sections, nor was its threshold chosen on them.",
                "The card of old does not say what it was trained on: it may have seen these sections.",
            ],
        ),
        (
            "old",
            {"judged": (judged(incumbent_calibrated_on=((3, 4),)),)},
            [
                "Neither model was trained on these sections or had its threshold chosen on them.",
                "old was calibrated on section 3 of v: that changed its probabilities, not its mask.",
            ],
        ),
    ],
)
def test_what_is_said_of_the_judged_sections_is_true(
    against: str | None, changes: dict[str, Any], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    show_promotion(decided(against, **changes), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1 - len(said) : -1] == said


def layer(iou: float) -> LayerScores:
    return LayerScores(iou=iou, precision=1, recall=1, rand=None, information=None)


def test_scores_are_a_row_for_each_volume(capsys: pytest.CaptureFixture[str]) -> None:
    clustered = Baseline(method="watershed")
    volumes = (
        VolumeScores(
            name="a",
            state="complete",
            sections=3,
            baseline=clustered,
            scores=Scores(model=layer(0.7), baseline=layer(0.4)),
        ),
        VolumeScores(name="b", state="complete", sections=2, note="not measured: no ground truth", baseline=clustered),
        VolumeScores(name="c", state="failed", reason="torn"),
    )
    show_scores(Report(run="r", model=None, created="", segem_version="", environment={}, volumes=volumes))
    cells = [
        [part.strip() for part in re.split("[\u2502\u2503]", line)[1:-1]]
        for line in capsys.readouterr().out.splitlines()
    ]
    assert [row for row in cells if row] == [
        ["volume", "sections", "watershed", "model", "V_rand", "V_info"],
        ["a", "3", "0.400", "0.700", "-", "-"],
        ["b", "2", "-", "not measured: no ground truth", "-", "-"],
        ["c", "-", "-", "failed", "-", "-"],
    ]
