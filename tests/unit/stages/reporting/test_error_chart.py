"""Where errors are expected, as a chart and as the regions that are shown."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from segem.records.error_map import ErrorMap, SectionErrors
from segem.records.expected import Abstains
from segem.records.scores import VolumeScores
from segem.stages.reporting.choice import choose_regions, choose_sections
from segem.stages.reporting.error_chart import draw_error_map
from segem.stages.reporting.words import NOTHING


def found(*, abstains: str | None = None, measured: bool = True) -> ErrorMap:
    """Return the map of three sections of 1 x 2 regions: the second is the worst, the third has no tissue."""
    shares = [(0.02, 0.04), (0.1, 0.3), (None, None)]
    real = [(0.0, 0.0), (0.2, 0.0), (None, None)]
    means, truths = [0.03, 0.2, None], [0.0, 0.1, None]
    return ErrorMap(
        volume="fly",
        region_px=256,
        y_px=(0, 256),
        x_px=(0, 256, 512),
        abstains=abstains,
        sections=tuple(
            SectionErrors(section=z, expected=means[z], worst=shares[z][1], measured=truths[z] if measured else None)
            for z in range(3)
        ),
        expected=tuple((row,) for row in shares),
        measured=tuple((row,) for row in real) if measured else (),
    )


def read_images(svg: str) -> list[np.ndarray]:
    data = re.findall(r'href="data:image/png;base64,([^"]+)"', svg)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGBA"), int) for one in data]


def test_darker_is_worse_and_measured_errors_lie_beside_the_expected_ones() -> None:
    chart = draw_error_map(found())
    assert chart is not None
    strip, expected, measured = read_images(chart.svg)
    brightness = strip[:, :, :3].sum(axis=2)
    row = strip.shape[0] // 6
    assert brightness[row, 5] > brightness[row, strip.shape[1] // 2], "the second section is darker"
    assert strip[row, -5, 3] == 0, "where there is no tissue there is no colour"
    left, right = (expected[5, x, :3].sum() for x in (5, -5))
    assert left > right
    left, right = (measured[5, x, :3].sum() for x in (5, -5))
    assert left < right
    assert chart.table.head == ("Section", "Expected", "Worst region", "Measured")
    assert chart.table.rows == (
        ("0", "3.0 %", "4.0 %", "0.0 %"), ("1", "20.0 %", "30.0 %", "10.0 %"), ("2", NOTHING, NOTHING, NOTHING),
    )  # fmt: skip
    assert "most in section 1" in chart.summary


def test_without_truth_there_is_nothing_measured() -> None:
    chart = draw_error_map(found(measured=False))
    assert chart is not None
    assert len(read_images(chart.svg)) == 2
    assert chart.table.head == ("Section", "Expected", "Worst region")
    assert chart.after == "An estimate, not measured here."


def test_where_nothing_is_expected_numbers_are_called_doubt() -> None:
    chart = draw_error_map(found(abstains="the tissue is too unlike"))
    assert chart is not None
    assert chart.title == "Where does the model hesitate?"
    assert chart.table.head[1] == "Doubt"
    assert "wrong" not in chart.summary
    (_, first), *_ = choose_regions(found(abstains="too unlike"))
    assert first == "most doubt of its section"


def test_without_any_tissue_there_is_no_chart() -> None:
    empty = found().model_copy(
        update={"sections": (SectionErrors(section=0, expected=None, worst=None),), "expected": (((None, None),),)}
    )
    assert draw_error_map(empty) is None
    assert list(choose_regions(empty)) == []


def test_the_worst_region_of_each_section_is_shown() -> None:
    assert [(box.start, box.stop) for box, _ in choose_regions(found())] == [
        ((1, 0, 256), (2, 256, 512)), ((0, 0, 256), (1, 256, 512)),
    ]  # fmt: skip
    # Of equal ones the first, of a section as of its regions.
    square = found().model_copy(
        update={
            "y_px": (0, 200, 400),
            "sections": tuple(SectionErrors(section=z, expected=0.1, worst=0.1) for z in range(4)),
            "expected": (((0.0, 0.0), (0.1, 0.1)),) * 4,
        }
    )
    assert [box.start for box, _ in choose_regions(square)] == [(0, 200, 0), (1, 200, 0), (2, 200, 0)]


@pytest.mark.parametrize(("expected", "what"), [(None, "expected errors"), (Abstains(abstains="far"), "doubt")])
def test_without_truth_sections_are_chosen_by_what_is_expected(expected: Abstains | None, what: str) -> None:
    errors = tuple(SectionErrors(section=z, expected=share, worst=share) for z, share in enumerate((0.2, 0.1, 0.3)))
    volume = VolumeScores(name="a", state="complete", sections=3, errors=errors, expected=expected)
    assert list(choose_sections(volume).items()) == [(2, f"most {what}"), (0, f"median {what}"), (1, f"least {what}")]
