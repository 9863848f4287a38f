"""Several runs side by side: what is compared with what, and how much they differ."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from segem.errors import InputError
from segem.io.run import note_failure
from segem.records.comparison import ComparedMask, ComparedVolume, Comparison, ScoreDifference
from segem.records.intervals import Interval, TooFew
from segem.stages.reporting.compare import compare
from segem.stages.reporting.comparison_page import summarise, write_comparison
from segem.stages.reporting.evaluate import evaluate
from segem.stages.reporting.read import read_report
from segem.stages.reporting.write import report
from tests.fabricate import add_baseline, add_model, add_volume, guess, new_workspace, tissue

IMAGE, TRUTH = tissue((8, 128, 128))
GOOD, POOR = guess(TRUTH), guess(TRUTH, noise=2.5)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Runs a and b have volume fly, and each one that the other has not, failed at, or has with other voxels."""
    space = new_workspace(tmp_path_factory.mktemp("compare") / "w")
    # 2.5 micrometres wide: enough tissue for intervals.
    for name in ("fly", "alone", "torn"):
        add_volume(space, name, IMAGE, TRUTH if name == "fly" else None, voxel_nm=(50, 20, 20))
    for run, probability in (("a", POOR), ("b", GOOD)):
        add_baseline(space, run, "fly", (IMAGE < 120).astype(np.uint8))
        add_model(space, run, "fly", probability)
        add_model(space, run, "torn", probability)
    add_model(space, "a", "alone", POOR)
    note_failure(space, "b", "torn", "torn in two")
    report("a", space)
    return space


@pytest.fixture(scope="module")
def compared(workspace):
    return compare(("a", "b"), workspace).result


def test_differences_are_those_of_the_reports(workspace, compared):
    first, second = (read_report(workspace.report("a")), compare(("b", "a"), workspace).result)
    (fly,) = compared.volumes
    (other,) = second.volumes
    assert fly.scores[0].iou == first.volumes[0].iou.model
    assert fly.scores[0].v_rand == first.volumes[0].v_rand
    assert fly.differences[0] == {}, "the first is what others are compared with"
    for score in ("iou", "precision", "recall", "v_rand", "v_info"):
        gained = getattr(fly.scores[1], score) - getattr(fly.scores[0], score)
        assert fly.differences[1][score].value == pytest.approx(gained)
        assert other.differences[1][score].value == pytest.approx(-gained)
    interval = fly.differences[1]["iou"].interval
    assert interval.low < fly.differences[1]["iou"].value < interval.high
    assert interval.low > 0, "noise of that size is no chance"


def test_changed_voxels_are_counted(compared):
    (fly,) = compared.volumes
    differs = (GOOD >= 128) != (POOR >= 128)
    assert fly.changed[1] == pytest.approx(differs.mean())
    assert [one.changed for one in fly.sections] == pytest.approx(differs.mean(axis=(1, 2)))


def test_a_method_stands_there_once_and_only_shared_volumes_do(compared):
    assert [(one.name, one.run) for one in compared.masks] == [
        ("a: unet-em", "a"), ("b: unet-em", "b"), ("K-means", "a"),
    ]  # fmt: skip
    assert compared.left_out == {"alone": "b does not have it", "torn": "it failed in b"}


def test_a_report_of_other_labels_is_not_reused(workspace, monkeypatch):
    scored = []

    def note(run, space):
        scored.append(run)
        return evaluate(run, space)

    monkeypatch.setattr("segem.stages.reporting.compare.evaluate", note)
    compare(("a", "b"), workspace)
    assert scored == ["b"], "the report of a stands"
    (workspace.volume("fly") / "zarr.json").touch()
    compare(("a", "b"), workspace)
    assert scored == ["b", "a", "b"]


@pytest.mark.parametrize(
    ("runs", "said"), [(("a", "a"), "a run is named twice"), (("a", "lonely"), "have no volume in common")]
)
def test_what_cannot_be_compared_is_refused(workspace, runs, said):
    if "lonely" in runs:
        add_volume(workspace, "elsewhere", IMAGE[:1])
        add_model(workspace, "lonely", "elsewhere", GOOD[:1])
    with pytest.raises(InputError, match=said):
        compare(runs, workspace)


def test_the_page_shows_both_and_needs_no_network(workspace, compared):
    written = write_comparison(("a", "b"), workspace)
    page = written.index.read_text()
    assert json.loads(written.json.read_text()) == compared.model_dump(mode="json")
    assert "b: unet-em, beside a: unet-em: IoU on 1 labelled volume: 1 better" in page
    assert "<li>alone: b does not have it</li>" in page
    assert not re.search(r'(?:src|href)="(?!data:|#|pictures/|comparison\.json)', page)
    pictures = list((written.index.parent / "pictures").iterdir())
    assert len(pictures) == page.count("data:image/jpeg;base64,") > 0


def fly(difference):
    return ComparedVolume(
        name="fly", source_digest="", scores=(), differences=({}, difference), changed=(), sections=()
    )


def test_the_summary_counts_what_is_better_worse_or_not_clear():
    masks = tuple(ComparedMask(name=name, run=name, mask="model") for name in "ab")
    ends = ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1), (0, 0))
    found = [Interval(low=low, high=high, method="") for low, high in ends] + [TooFew(too_few="2 sections")]
    volumes = tuple(fly({"iou": ScoreDifference(value=0 if one == found[3] else 0.1, interval=one)}) for one in found)
    result = Comparison(runs=("a", "b"), masks=masks, volumes=volumes)
    assert list(summarise(result)) == [
        "b, beside a: IoU on 5 labelled volumes: 1 better, 1 worse, 1 the same, 2 not clear."
    ]
    blind = result.model_copy(update={"volumes": (fly({}),)})
    assert list(summarise(blind)) == ["b: nothing was measured, for want of truth."]
