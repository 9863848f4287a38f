"""When an estimate is given and what it says, and when and why it abstains."""

from __future__ import annotations

from dataclasses import replace
from math import hypot

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segem.kernels.drift import TOO_FAR, TRAITS
from segem.kernels.estimate import (
    FAR_SECTION,
    IOU_FLOOR,
    NORMAL_90,
    V_RAND_FLOOR,
    Observed,
    describe_section,
    estimate_scores,
)
from segem.kernels.expected import ExpectedConfusion, from_log_odds, log_odds
from segem.records.expected import Abstains, Expected
from segem.records.reference import Reference, ReferenceVolume, Spread

USUAL = {trait.name: 1.0 for trait in TRAITS}


def volume(name: str = "fly", middle: float = 0.0, deviation: float = 0.0, **more: object) -> ReferenceVolume:
    facts = {
        "volume": name,
        "source_digest": "d",
        "sections": (0, 2),
        "seen_sections": 3,
        "pixel_nm": (4.0, 4.0),
        "section_nm": 50.0,
        "section_px": 512**2,
        "traits": dict.fromkeys(USUAL, (1.0, 1.0)),
        "iou": Spread(middle=middle, deviation=deviation),
        "v_rand": Spread(middle=log_odds(0.9), deviation=0.3),
    }
    return ReferenceVolume.model_validate(facts | more)


def reference(*volumes: ReferenceVolume) -> Reference:
    return Reference(pieces=8, volumes=volumes)


OBSERVED = Observed(ExpectedConfusion(70, 15, 15), [USUAL] * 4, (4.0, 4.0), 50.0, 512**2)


def given_by(known: Reference, observed: Observed = OBSERVED) -> Expected:
    found = estimate_scores(known, observed)
    assert isinstance(found, Expected)
    return found


def withheld(known: Reference, observed: Observed = OBSERVED) -> Abstains:
    found = estimate_scores(known, observed)
    assert isinstance(found, Abstains)
    return found


def beyond(distance: float, trait: str = "ends") -> dict[str, float]:
    """Return traits that lie so far beyond the usual ones."""
    (unit,) = (one.unit for one in TRAITS if one.name == trait)
    return USUAL | {trait: 2 ** (unit * distance)}


def test_an_estimate_is_the_expected_iou_where_the_reference_is_met() -> None:
    found = given_by(reference(volume()))
    assert found.iou.value == pytest.approx(0.7)
    half = NORMAL_90 * IOU_FLOOR
    assert (found.iou.low, found.iou.high) == pytest.approx(
        (from_log_odds(log_odds(0.7) - half), from_log_odds(log_odds(0.7) + half))
    )
    assert found.v_rand is not None
    assert found.v_rand.value == pytest.approx(0.9)
    assert (found.distance, found.like) == (0, "fly")


def test_an_estimate_is_corrected_by_what_was_measured() -> None:
    """Where 0.7 was expected and 0.6 measured, 0.7 is worth 0.6."""
    found = given_by(reference(volume(middle=log_odds(0.6) - log_odds(0.7))))
    assert found.iou.value == pytest.approx(0.6)


def test_the_volume_that_is_most_alike_counts_most() -> None:
    here = replace(OBSERVED, sections=[beyond(1.8)])
    near = {name: (value, value) for name, value in beyond(1.8).items()}
    known = reference(volume("far", middle=0.8), volume("near", middle=-0.2, traits=near))
    found = given_by(known, here)
    assert found.like == "near"
    low, high = (from_log_odds(log_odds(0.7) + middle) for middle in (-0.2, 0.8))
    assert low < found.iou.value < (low + high) / 2
    alone = given_by(reference(volume("near", middle=-0.2, traits=near)), here)
    assert found.iou.high - found.iou.low > alone.iou.high - alone.iou.low, "references that disagree make it wider"


@given(st.floats(0.01, 0.99), st.floats(-2, 2), st.floats(0, 1), st.floats(0, 1))
def test_intervals_hold_their_value_and_grow_with_the_spread(
    share: float, middle: float, less: float, more: float
) -> None:
    observed = replace(OBSERVED, confusion=ExpectedConfusion(100 * share, 100 * (1 - share), 0))
    narrow, wide = (given_by(reference(volume(middle=middle, deviation=d)), observed).iou for d in sorted((less, more)))
    assert 0 < wide.low <= narrow.low < narrow.value < narrow.high <= wide.high < 1


@pytest.mark.parametrize(
    ("pixel_nm", "section_nm"), [((8.0, 8.0), 50.0), ((2.0, 2.0), 50.0), ((4.0, 8.0), 50.0), ((4.0, 4.0), 10.0)]
)
def test_voxels_of_another_size_are_not_judged(pixel_nm: tuple[float, float], section_nm: float) -> None:
    found = withheld(reference(volume()), replace(OBSERVED, pixel_nm=pixel_nm, section_nm=section_nm))
    assert found.abstains == (
        f"voxels are {section_nm:g} x {pixel_nm[0]:g} x {pixel_nm[1]:g} nm, and the estimate was fitted at "
        "50 x 4 x 4 nm"
    )


def test_voxels_of_nearly_the_same_size_are() -> None:
    given_by(reference(volume()), replace(OBSERVED, pixel_nm=(4.3, 4.3), section_nm=45.0))


def test_tissue_that_is_too_unlike_is_not_judged_and_the_reason_is_said() -> None:
    given_by(reference(volume()), replace(OBSERVED, sections=[beyond(TOO_FAR - 0.01)] * 4))
    found = withheld(reference(volume()), replace(OBSERVED, sections=[beyond(TOO_FAR + 0.01, "width_px")] * 4))
    assert "too unlike what the estimate was fitted on" in found.abstains
    assert found.reasons == ("the width of membranes is 1.2 px, and 1 to 1 px where the estimate was fitted",)


def test_a_volume_is_not_judged_where_many_of_its_sections_are_too_unlike() -> None:
    """Sections that are too thick and too thin have the usual mean."""
    odd = [beyond(FAR_SECTION + 0.1), beyond(-FAR_SECTION - 0.1)]
    found = withheld(reference(volume()), replace(OBSERVED, sections=[*odd, USUAL, USUAL]))
    assert found.abstains == "2 of 4 sections are too unlike what the estimate was fitted on"
    given_by(reference(volume()), replace(OBSERVED, sections=[*odd, *[USUAL] * 6]))


def test_one_odd_section_of_few_does_not_silence_a_volume_whose_mean_is_near() -> None:
    """Two of them do, and so does one that is all there is."""
    odd = beyond(FAR_SECTION + 0.1)
    for others in (1, 2):
        given_by(reference(volume()), replace(OBSERVED, sections=[odd, *[USUAL] * others]))
    found = withheld(reference(volume()), replace(OBSERVED, sections=[odd, beyond(-FAR_SECTION - 0.1), USUAL]))
    assert found.abstains == "2 of 3 sections are too unlike what the estimate was fitted on"
    withheld(reference(volume()), replace(OBSERVED, sections=[odd]))


def test_a_section_that_is_too_unlike_is_named() -> None:
    known = reference(volume())
    assert describe_section(known, USUAL) == ()
    assert describe_section(known, beyond(FAR_SECTION + 0.1)) == (
        "loose ends of membranes, for 1000 px of their length is 2.5, and 1 to 1 where the estimate was fitted",
    )


@pytest.mark.parametrize("nothing", [{"confusion": ExpectedConfusion()}, {"sections": []}])
def test_without_membrane_or_tissue_there_is_no_estimate(nothing: dict[str, object]) -> None:
    assert "no membrane" in withheld(reference(volume()), replace(OBSERVED, **nothing)).abstains  # type: ignore[arg-type]


@pytest.mark.parametrize(("edge", "known"), [(400, True), (720, True), (256, False), (1024, False)])
def test_v_rand_is_estimated_for_sections_of_like_size_only(edge: int, known: bool) -> None:
    found = given_by(reference(volume()), replace(OBSERVED, section_px=edge**2))
    assert (found.v_rand is not None) == known


def test_few_sections_make_a_wide_interval_of_v_rand() -> None:
    """By hand: of two sections t is 6.314, and one more of them lies 0.3 * sqrt(2) * sqrt(1.5) * t = 3.281 off."""
    found = given_by(reference(volume(sections=(0, 2)))).v_rand
    assert found is not None
    assert log_odds(found.high) - log_odds(found.value) == pytest.approx(
        hypot(3.281, NORMAL_90 * V_RAND_FLOOR), abs=0.01
    )
    many = given_by(reference(volume(sections=(0, 200)))).v_rand
    assert many is not None
    assert log_odds(many.high) - log_odds(many.value) == pytest.approx(NORMAL_90 * hypot(0.3, V_RAND_FLOOR), abs=0.02)


@pytest.mark.parametrize("without", [{"v_rand": None}, {"sections": (0, 1)}])
def test_without_cells_or_with_one_section_v_rand_is_not_estimated(without: dict[str, object]) -> None:
    found = given_by(reference(volume(**without)))  # type: ignore[arg-type]
    assert found.v_rand is None
    assert found.iou.value == pytest.approx(0.7)
