"""The curves of quality: where they lie, what is marked on them, and where the report says so."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from segem.records.quality import SectionFlag, SectionQuality
from segem.records.scores import VolumeScores
from segem.stages.reporting.strip import draw_quality
from segem.stages.reporting.write import report
from segem.stages.volumes.quality import TABLE, measure_quality
from tests.fabricate import add_baseline, add_volume, new_workspace, tissue


def volume(sections, flags=()):
    return VolumeScores(name="a", state="complete", quality=tuple(sections), flags=tuple(flags))


def sections(contrasts):
    return [SectionQuality(section=z, contrast=value) for z, value in enumerate(contrasts)]


def list_points(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ([\d.]+)", path)]


def find_curves(chart):
    """Return the points of each curve, which are the paths in the colour of curves."""
    paths = re.findall(r"<path ([^>]*)/>", chart.svg)
    return [
        list_points(re.search(r'd="([^"]+)"', one).group(1))
        for one in paths
        if "stroke: var(--model)" in one and "fill: none" in one
    ]


def find_marks(chart):
    found = re.findall(r'<use xlink:href="#\w+" x="([\d.]+)" y="([\d.]+)"', chart.svg)
    return [(float(x), float(y)) for x, y in found]


def test_a_curve_goes_through_its_values():
    chart = draw_quality(volume(sections([100, 110, 140])))
    (curve,) = find_curves(chart)
    (x0, y0), (x1, y1), (x2, y2) = curve
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.01)
    assert (y0 - y1) * 3 == pytest.approx(y1 - y2, abs=0.05), "up is more"
    assert chart.table.rows == (("0", "100", "no"), ("1", "110", "no"), ("2", "140", "no"))


def test_a_section_that_stands_out_is_marked_on_its_curve_alone():
    flags = [SectionFlag(section=1, kind="contrast", reason="contrast of 50")]
    both = [one.model_copy(update={"brightness": 100 + one.section}) for one in sections([100, 50, 100])]
    chart = draw_quality(volume(both, flags))
    contrast, brightness = find_curves(chart)
    (mark,) = find_marks(chart)
    assert mark == pytest.approx(contrast[1], abs=0.01)
    assert mark != pytest.approx(brightness[1], abs=0.01)
    assert chart.table.rows[1][-1] == "contrast"
    assert chart.summary == "Quality of 3 sections. 1 stands out: 1."


def test_a_missing_value_breaks_the_curve():
    chart = draw_quality(volume(sections([100, 110, None, 110, 100])))
    (path,) = (
        re.search(r'd="([^"]+)"', one).group(1)
        for one in re.findall(r"<path ([^>]*)/>", chart.svg)
        if "stroke: var(--model)" in one
    )
    assert path.count("M") == 2
    assert chart.table.rows[2][1] == "not measured"


def test_of_many_sections_those_that_stand_out_are_drawn():
    values = np.full(5000, 100.0)
    values[1234] = 50
    flag = SectionFlag(section=1234, kind="contrast", reason="low")
    chart = draw_quality(volume(sections(values), [flag]))
    (curve,) = find_curves(chart)
    assert len(curve) < 700
    (mark,) = find_marks(chart)
    assert mark == pytest.approx(max(curve, key=lambda point: point[1]), abs=0.01)
    assert len(chart.table.rows) == 5000


def test_too_little_has_no_curve():
    assert draw_quality(volume(sections([100]))) is None
    assert draw_quality(volume(sections([None, None]))) is None
    assert draw_quality(volume([])) is None


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
    assert len(volume["flags"]) == 2


def test_a_lost_table_costs_no_scores(measured):
    workspace, volume = measured
    (volume.path / TABLE).unlink()
    written = report("r", workspace)
    (found,) = json.loads(written.json.read_text())["volumes"]
    assert (found["state"], found["quality"]) == ("complete", [])
    assert any(TABLE in warning for warning in found["warnings"])
    assert "Quality section by section" not in written.index.read_text()
