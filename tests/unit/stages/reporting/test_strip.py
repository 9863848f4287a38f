"""The curves of quality: where they lie, what is marked on them, and where the report says so."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from segem.records.quality import SectionFlag, SectionQuality
from segem.stages.reporting.strip import choose_levels, lay_out_quality
from segem.stages.reporting.write import report
from segem.stages.volumes.quality import TABLE, measure_quality
from tests.fabricate import add_baseline, add_volume, new_workspace, tissue


def sections(contrasts):
    return [SectionQuality(section=z, contrast=value) for z, value in enumerate(contrasts)]


def points(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+),([\d.]+)", path)]


def test_curves_lie_where_their_axes_say():
    strip = lay_out_quality(sections([100, 110, 120]), [])
    (row,) = strip.rows
    assert [text for _, text in row.ticks] == ["100", "110", "120"]
    ends = {text: y for y, text in row.ticks}
    assert points(row.path) == [
        (strip.left, ends["100"]),
        pytest.approx((380, ends["110"])),
        (strip.right, ends["120"]),
    ]
    assert ends["120"] == row.top < ends["100"] == row.bottom
    assert [text for _, text in strip.x_ticks] == ["0", "1", "2"]


def test_a_section_that_stands_out_is_marked_on_its_curve_alone():
    flags = [SectionFlag(section=1, kind="contrast", reason="contrast of 50")]
    both = [one.model_copy(update={"brightness": 100 + one.section}) for one in sections([100, 50, 100])]
    contrast, brightness = lay_out_quality(both, flags).rows
    (mark,) = contrast.marks
    assert (mark.x, mark.y, mark.reason) == (*points(contrast.path)[1], "contrast of 50")
    assert brightness.marks == ()
    assert lay_out_quality(both, flags).flagged == (mark.x,)


def test_a_missing_value_breaks_the_curve():
    assert lay_out_quality(sections([100, 110, None, 110, 100]), []).rows[0].path.count("M") == 2


def test_of_many_sections_those_that_stand_out_are_drawn():
    values = np.full(5000, 100.0)
    values[1234] = 50
    (row,) = lay_out_quality(sections(values), [SectionFlag(section=1234, kind="contrast", reason="low")]).rows
    assert len(points(row.path)) < 700
    assert (row.marks[0].x, row.marks[0].y) in points(row.path)


def test_too_little_has_no_curve():
    assert lay_out_quality(sections([100]), []) is None
    assert lay_out_quality(sections([None, None]), []) is None
    assert lay_out_quality([], []) is None


@pytest.mark.parametrize(("low", "high"), [(0, 0), (5, 5), (0.001, 0.0011), (-3, 12), (1e4, 6e4), (0.2, 1)])
def test_levels_enclose_the_values(low, high):
    levels = choose_levels(low, high)
    assert levels[0] <= low <= high <= levels[-1]
    assert 2 <= len(levels) <= 5


@pytest.fixture
def measured(tmp_path):
    workspace = new_workspace(tmp_path / "w")
    image = np.repeat(tissue((1, 96, 96))[0], 7, axis=0).astype(int)
    image += np.random.default_rng(0).integers(-12, 13, image.shape)
    image[4] //= 2
    volume = add_volume(workspace, "v", np.clip(image, 0, 255).astype(np.uint8))
    measure_quality(volume)
    add_baseline(workspace, "r", "v", (image < 100).astype(np.uint8))
    return workspace, volume


def test_the_report_lists_what_stands_out(measured):
    workspace, _ = measured
    written = report("r", workspace)
    (volume,) = json.loads(written.json.read_text())["volumes"]
    assert {flag["section"] for flag in volume["flags"]} == {4}
    assert [one["section"] for one in volume["quality"]] == list(range(7))
    page = written.index.read_text()
    assert all(f"<li>section 4: {flag['reason']}</li>" in page for flag in volume["flags"])
    assert page.count('<circle class="flagged"') == len(volume["flags"]) == 2


def test_a_lost_table_costs_no_scores(measured):
    workspace, volume = measured
    (volume.path / TABLE).unlink()
    written = report("r", workspace)
    (found,) = json.loads(written.json.read_text())["volumes"]
    assert (found["state"], found["quality"]) == ("complete", [])
    assert any(TABLE in warning for warning in found["warnings"])
    assert "Quality section by section" not in written.index.read_text()
