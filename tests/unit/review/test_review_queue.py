"""The queue of a volume and the questions about a section, as they are read from a run on disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from segem.errors import InputError
from segem.io.workspace import Workspace
from segem.kernels.divided_section import DividedSection
from segem.kernels.metrics.segments import label_cells
from segem.kernels.questions import draw_ridge, find_doubts
from segem.review.questions import list_questions
from segem.review.queue import rank_regions
from segem.stages.reporting.expected import estimate_volume
from segem.stages.reporting.write import report
from tests.fabricate import add_baseline, add_model, add_volume, new_workspace, tissue

RUN, NAME = "r1", "fly"
SHAPE = (3, 300, 520)
LIMIT = 0.6


@pytest.fixture(scope="module")
def probability() -> np.ndarray:
    """Cells of 60 px behind certain walls, with a gap each in sections 1 and 2; the right of section 2 is in doubt."""
    found = np.full(SHAPE, 5, np.uint8)
    for at in range(60, 520, 60):
        found[:, :, at : at + 4] = 250
    for at in range(60, 300, 60):
        found[:, at : at + 4] = 250
    found[1, 80:90, 180:184] = 100
    found[2, :, 262:] = np.where(found[2, :, 262:] == 5, 60, 250)
    found[2, 200:210, 420:424] = 100
    return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, probability: np.ndarray) -> Workspace:
    workspace = new_workspace(tmp_path_factory.mktemp("w"))
    image, _ = tissue(SHAPE, seed=1)
    add_volume(workspace, NAME, image)
    add_model(workspace, RUN, NAME, probability, facts={"merge_below": LIMIT})
    return workspace


def test_the_gap_is_asked_about_and_yes_closes_it(workspace, probability):
    first, *_ = list_questions(workspace, RUN, NAME, 1)
    assert not first.has_membrane
    assert (first.volume, first.z) == (NAME, 1)
    assert (first.y, first.x) in first.ridge
    assert 78 <= first.y <= 92
    assert 179 <= first.x <= 185
    mask = (probability[1] >= 128).astype(np.uint8)
    cells = label_cells(draw_ridge(mask, first.ridge, first.width_px) == 0)
    assert cells.max() == label_cells(mask == 0).max() + 1
    assert cells[85, 150] != cells[85, 210]
    # Two cells of about 60 x 60 px in a section of 300 x 520.
    assert first.consequence == pytest.approx((60 * 60 / (300 * 520)) ** 2, rel=0.3)


def test_where_nothing_is_in_doubt_nothing_is_asked(workspace):
    assert list_questions(workspace, RUN, NAME, 0) == []


def test_no_more_is_asked_than_was_asked_for(workspace, probability):
    assert list_questions(workspace, RUN, NAME, 1, count=0) == []
    section = DividedSection.divide(probability[1], (probability[1] >= 128).astype(np.uint8), 2.0)
    assert len(list_questions(workspace, RUN, NAME, 1)) == len(find_doubts(section, LIMIT, 50))


def test_a_large_section_is_asked_about_where_most_is_expected_to_be_wrong(workspace, monkeypatch):
    whole = list_questions(workspace, RUN, NAME, 1)[0]
    monkeypatch.setattr("segem.review.questions._PIECE_PX", 260)
    (part,) = list_questions(workspace, RUN, NAME, 1, count=1)
    # In the left of two pieces as in the whole section, whose pairs of pixels are counted.
    assert part == whole
    monkeypatch.setattr("segem.review.questions._MOST_PIECES", 1)
    assert list_questions(workspace, RUN, NAME, 1)[0] == whole
    (right,) = list_questions(workspace, RUN, NAME, 2, count=1)
    assert 198 <= right.y <= 212
    assert {418 <= x <= 425 for _, x in right.ridge} == {True}


def test_regions_come_in_the_order_of_expected_errors(workspace, probability):
    regions = rank_regions(workspace, RUN, NAME)
    assert [one.priority for one in regions] == sorted((one.priority for one in regions), reverse=True)
    # Where half of a section is grey, the model is in doubt.
    assert (regions[0].z, regions[0].y, regions[0].x) == (2, 0, 260)
    assert (regions[0].height_px, regions[0].width_px) == (300, 260)
    assert len(regions) == 6
    pixels = np.zeros(SHAPE, int)
    for one in regions:
        pixels[one.z, one.y : one.y + one.height_px, one.x : one.x + one.width_px] += 1
        assert "doubt" in one.reason
    assert (pixels == 1).all()


def test_the_map_of_a_report_is_used_as_long_as_it_is_of_this_mask(workspace, monkeypatch):
    report(RUN, workspace)
    path = workspace.report(RUN) / "errors" / f"{NAME}.json"
    later = path.stat().st_mtime + 100
    os.utime(path, (later, later))
    expected = rank_regions(workspace, RUN, NAME)
    computed = []

    def estimate(*given):
        computed.append(1)
        return estimate_volume(*given)

    monkeypatch.setattr("segem.review.queue.estimate_volume", estimate)
    assert rank_regions(workspace, RUN, NAME) == expected
    assert not computed
    os.utime(path, (0, 0))
    assert rank_regions(workspace, RUN, NAME) == expected
    assert computed == [1]
    path.write_text("{", encoding="utf-8")
    os.utime(path, (later, later))
    assert rank_regions(workspace, RUN, NAME) == expected
    assert computed == [1, 1]


def test_what_a_run_does_not_have_is_said(tmp_path: Path, workspace):
    with pytest.raises(InputError, match="no such section"):
        list_questions(workspace, RUN, NAME, 3)
    with pytest.raises(InputError, match="no probability"):
        list_questions(workspace, RUN, "other", 0)
    bare = new_workspace(tmp_path)
    image, _ = tissue((1, 64, 64), seed=1)
    add_volume(bare, NAME, image)
    add_baseline(bare, RUN, NAME, np.zeros((1, 64, 64), np.uint8))
    with pytest.raises(InputError, match="no probability"):
        rank_regions(bare, RUN, NAME)
