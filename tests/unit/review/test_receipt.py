"""The receipt of a review: what counts, by whom, and the head that it can be checked by."""

from __future__ import annotations

import csv
import shutil
import uuid

import numpy as np
import pytest

from segem.errors import ConfigError
from segem.kernels.runs import encode_runs
from segem.records.review import Draft, Place
from segem.review.apart import Checks
from segem.review.receipt import write_receipt
from segem.review.session import Review
from tests.fabricate import add_baseline, add_volume, new_workspace, tissue


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    made = new_workspace(tmp_path_factory.mktemp("receipt") / "w")
    image, truth = tissue((2, 300, 600))
    add_volume(made, "v", image)
    add_baseline(made, "r", "v", truth)
    review = Review(made, "r", checks=Checks(second_share=1.0))
    cells = [Place(volume="v", z=0, y=0, x=x, height=256, width=256) for x in (0, 256)]
    for person, cell, decision, note in (
        ("Ana", cells[0], "fix", "=HYPERLINK(1)"),
        ("Ana", cells[1], "unsure", "a $x^2$ place, " + "long " * 20),
        ("Bo", cells[0], "reject", "the second reading counts for nothing here"),
        ("Ana", cells[1], "accept", ""),
    ):
        dot = np.zeros((256, 256), bool)
        dot[3, 4] = True
        for kind, runs, detail in (
            ("correction", encode_runs(dot), {"tool": "brush"}),
            ("decision", (), {"decision": decision, "note": note}),
        ):
            draft = Draft(id=uuid.uuid4().hex, kind=kind, place=cell, runs=runs, active_seconds=2.5, detail=detail)
            review.append(draft, person, review.log.head().entries)
    review.close()
    return made


def test_the_table_holds_the_last_decision_about_each_region(space, tmp_path):
    assert write_receipt(tmp_path / "r.csv", space, "r") == 2
    first, second = csv.DictReader((tmp_path / "r.csv").read_text(encoding="utf-8").splitlines())
    with_log = Review(space, "r")
    head, entries = with_log.log.head(), with_log.log.entries(("decision",), "v")
    with_log.close()
    assert (first["person"], first["decision"], first["note"]) == ("Ana", "fix", "'=HYPERLINK(1)")
    assert (second["decision"], second["x"], second["active_seconds"], second["corrections"]) == (
        "accept",
        "256",
        "10.0",
        "2",
    )
    assert {row["head"] for row in (first, second)} == {head.digest}
    assert [row["digest"] for row in (first, second)] == [entries[0].digest, entries[-1].digest]


def test_decisions_stay_on_the_receipt_when_the_mask_is_not_there_any_more(tmp_path):
    space = new_workspace(tmp_path / "w")
    image, truth = tissue((1, 300, 300))
    add_volume(space, "v", image)
    add_baseline(space, "r", "v", truth)
    review = Review(space, "r")
    where = Place(volume="v", z=0, y=0, x=0, height=256, width=256)
    detail = {"decision": "accept", "note": ""}
    review.append(Draft(id="ab" * 16, kind="decision", place=where, detail=detail), "Ana", 0)
    review.close()
    shutil.rmtree(space.result("r", "v"))
    assert write_receipt(tmp_path / "r.csv", space, "r") == 1


def test_the_same_review_is_the_same_pages(space, tmp_path):
    for name in ("a.pdf", "b.pdf"):
        assert write_receipt(tmp_path / name, space, "r") == 2
    first, second = ((tmp_path / name).read_bytes() for name in ("a.pdf", "b.pdf"))
    assert first == second
    assert first.startswith(b"%PDF")


def test_what_no_receipt_can_be_written_of_is_said(space, tmp_path):
    with pytest.raises(ConfigError, match="no such kind of receipt"):
        write_receipt(tmp_path / "r.txt", space, "r")
    image, truth = tissue((1, 32, 32))
    add_volume(space, "w", image)
    add_baseline(space, "other", "w", truth)
    with pytest.raises(ConfigError, match="nobody has reviewed this run yet"):
        write_receipt(tmp_path / "r.csv", space, "other")
