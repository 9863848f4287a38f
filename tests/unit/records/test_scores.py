"""Scores as they are written and read back."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from segem.records.run import ModelRecord
from segem.records.scores import Baseline, CellScore, IoU, LayerScores, Report, Scores, VolumeScores

RAND = CellScore(value=0.9, precision=0.8, recall=1.0, threshold=0.4)
MODEL = LayerScores(iou=0.7, precision=0.6, recall=0.5, rand=RAND, information=None)
BASELINE = LayerScores(iou=0.4, precision=0.3, recall=0.2, rand=None, information=None)
SCORED = VolumeScores(
    name="a",
    state="complete",
    model=ModelRecord(name="unet-em", digest="ab"),
    baseline=Baseline(method="ncut"),
    scores=Scores(model=MODEL, baseline=BASELINE),
)


def report(*volumes: VolumeScores) -> Report:
    return Report(run="r", model=None, created="", segem_version="", environment={}, volumes=volumes)


def test_what_scripts_look_for_stands_beside_the_scores() -> None:
    values = report(SCORED, VolumeScores(name="b", state="failed")).model_dump(mode="json")
    scored, failed = values["volumes"]
    assert values["schema"] == 2
    assert scored["iou"] == {"model": 0.7, "baseline": 0.4}
    assert [scored[key] for key in ("precision", "recall", "v_rand", "v_info")] == [0.6, 0.5, 0.9, None]
    assert scored["baseline"] == {"method": "ncut", "name": "normalised cuts"}
    assert [failed[key] for key in ("iou", "precision", "v_rand", "baseline", "model")] == [None] * 5


def test_a_mask_that_is_missing_has_no_score() -> None:
    alone = SCORED.model_copy(update={"scores": Scores(baseline=BASELINE)})
    assert alone.measured
    assert (alone.iou, alone.v_rand) == (IoU(baseline=0.4), None)
    assert not SCORED.model_copy(update={"scores": Scores()}).measured


def test_scores_are_equal_after_they_were_written_and_read_back() -> None:
    once = report(SCORED, VolumeScores(name="b", state="failed", reason="torn"))
    assert Report.model_validate_json(once.model_dump_json()) == once
    assert once.failed() == {"b": "torn"}


def test_what_follows_from_the_scores_is_not_taken_from_a_file() -> None:
    values = report(SCORED).model_dump(mode="json")
    values["volumes"][0]["iou"]["model"] = 0.99
    (volume,) = Report.model_validate_json(json.dumps(values)).volumes
    assert volume.iou == IoU(model=0.7, baseline=0.4)


@pytest.mark.parametrize("change", [{"schema": 1}, {"kmeans": 0.4}, {"volumes": [{"name": "a"}]}])
def test_another_schema_or_an_unknown_key_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Report.model_validate(report(SCORED).model_dump(mode="json") | change)
