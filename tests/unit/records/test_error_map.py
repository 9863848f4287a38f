from __future__ import annotations

import json

from segem.records.error_map import ErrorMap, SectionErrors
from segem.records.expected import Abstains, Estimate, Expected
from segem.records.scores import VolumeScores


def two_sections() -> ErrorMap:
    return ErrorMap(
        volume="fly",
        region_px=256,
        y_px=(0, 256),
        x_px=(0, 256, 512),
        sections=(
            SectionErrors(section=0, expected=0.1, measured=0.2, worst=0.18, reasons=("blurred",)),
            SectionErrors(section=1, expected=0.1, measured=None, worst=0.1),
        ),
        expected=(((0.02, 0.18),), ((None, 0.1),)),
        measured=(((0.1, 0.3),), ((None, None),)),
    )


def test_regions_are_ranked_with_their_places_and_reasons() -> None:
    first, second, third = two_sections().rank()
    assert two_sections().rank(2) == [first, second]
    assert (first.section, first.y_px, first.x_px) == (0, (0, 256), (256, 512))
    assert (first.expected, first.measured, first.reasons) == (0.18, 0.3, ("blurred",))
    assert (second.section, second.x_px, second.measured, second.reasons) == (1, (256, 512), None, ())
    assert third.expected == 0.02


def test_a_map_reads_back_as_it_was() -> None:
    found = two_sections()
    assert ErrorMap.model_validate_json(found.model_dump_json(by_alias=True)) == found


def test_scores_say_what_is_expected_or_why_not() -> None:
    said = Estimate(value=0.7, low=0.6, high=0.8)
    expected = Expected(iou=said, v_rand=None, distance=0.5, like="fly")
    silent = Abstains(abstains="too unlike", reasons=("wider",))
    found = {
        name: VolumeScores(name=name, state="complete", expected=one)
        for name, one in {"said": expected, "silent": silent, "none": None}.items()
    }
    written = {name: json.loads(one.model_dump_json()) for name, one in found.items()}
    assert written["said"]["expected_iou"] == {"value": 0.7, "low": 0.6, "high": 0.8}
    assert written["silent"]["expected_iou"] == {"abstains": "too unlike", "reasons": ["wider"]}
    assert written["none"]["expected_iou"] is None
    assert all(VolumeScores.model_validate(written[name]) == one for name, one in found.items())
    assert found["said"].iou is None, "an estimate is no score"
    assert not found["said"].measured
