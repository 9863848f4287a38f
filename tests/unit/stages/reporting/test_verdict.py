from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segem.config import parse_rules
from segem.config.accept import CRITERIA
from segem.records.run import ModelRecord
from segem.records.scores import CellScore, LayerScores, Scores, VolumeScores
from segem.records.seams import Recomputed, RecomputedPlace, SeamAudit
from segem.records.verdict import State
from segem.stages.reporting.verdict import NO_RULES, judge_run, judge_volume, read_criterion

CELLS = CellScore(value=0.96, precision=0.95, recall=0.97, threshold=0.5)
MASK = LayerScores(iou=0.72, precision=0.8, recall=0.9, rand=CELLS, information=None)
MODEL = ModelRecord(name="unet", digest="0" * 64)
WHOLE = SeamAudit(planes=3, ratio=1.01, low=0.97, high=1.05)
BROKEN = SeamAudit(planes=3, ratio=1.6, low=1.5, high=1.7, shows=True, where="at row 256: much")


def scored(**changes: Any) -> VolumeScores:
    values = {"name": "fly", "state": "complete", "scores": Scores(model=MASK), "ece": 0.02, "seams": WHOLE}
    return VolumeScores.model_validate(values | changes)


def judge(volume: VolumeScores, *rules: str) -> tuple[State, str]:
    found = judge_volume(volume, parse_rules(rules))
    return found.state, found.sentence


def test_every_rule_met_is_accepted() -> None:
    assert judge(scored(), "iou >= .65", "v_rand >= .95", "seam_ratio <= 1.1") == (
        "accepted",
        "fly: accepted. IoU 0.72 is at least 0.65. V_rand 0.96 is at least 0.95. Seam ratio 1.01 is at most 1.1.",
    )


def test_one_rule_that_is_not_met_rejects() -> None:
    assert judge(scored(), "iou >= .8", "v_rand >= .95") == ("rejected", "fly: rejected. IoU 0.72 is not at least 0.8.")


def test_a_bound_that_is_reached_exactly_counts() -> None:
    assert judge(scored(), "iou >= .72")[0] == "accepted"
    assert judge(scored(), "iou > .72")[0] == "rejected"


@pytest.mark.parametrize("rule", ["ece <= 0.00005", "sections_flagged <= 12345678", "iou >= 0.6512345678", "iou >= 1"])
def test_a_rule_is_kept_as_it_can_be_read_again(rule: str) -> None:
    assert [str(one) for one in parse_rules([str(one) for one in parse_rules([rule])])] == [rule]


def test_no_rules_leave_it_to_a_person() -> None:
    state, sentence = judge(scored())
    assert state == "review"
    assert NO_RULES.removeprefix("no ") in sentence


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("iou >= .6", "IoU cannot be judged: no ground truth"),
        ("expected_iou >= .6", "Expected IoU cannot be judged: nothing is estimated without truth yet"),
        ("sections_flagged <= 2", "Number of flagged sections cannot be judged: the quality of its sections was not"),
    ],
)
def test_what_cannot_be_measured_is_not_met_and_says_why(rule: str, why: str) -> None:
    blind = scored(scores=Scores(), note="not measured: no ground truth", model=MODEL, ece=None)
    found = judge_volume(blind, parse_rules([rule, "seam_ratio <= 1.1"]))
    assert found.state == "review"
    assert why in found.sentence
    assert (found.rules[0].met, found.rules[0].value) == (False, None)
    assert found.rules[0].why
    assert found.rules[1].met


def test_a_measured_failure_weighs_more_than_what_is_not_measured() -> None:
    assert judge(scored(), "expected_iou >= .6", "iou >= .8")[0] == "rejected"


def test_seams_that_show_reject_whatever_the_rules_say() -> None:
    for rules in ((), ("iou >= .6",), ("seam_ratio <= 99",)):
        state, sentence = judge(scored(seams=BROKEN), *rules)
        assert state == "rejected"
        assert "Seams show at row 256" in sentence


@pytest.mark.parametrize("planes", [0, 3])
def test_places_that_are_not_what_is_stored_reject_whatever_the_rules_say(planes: int) -> None:
    place = RecomputedPlace(
        section=2, rows=(96, 160), columns=(0, 64), plane="where tiles meet at row 128", share=0.125, levels=9
    )
    sound = place.model_copy(update={"share": 0.0001, "levels": 1})
    anew = Recomputed(places=(sound, place, sound), most_levels=1, most_share=0.002)
    seams = WHOLE.model_copy(update={"planes": planes}).beside(anew)
    state, sentence = judge(scored(seams=seams), "iou >= .6", "seam_ratio <= 99")
    assert state == "rejected"
    assert sentence == (
        "fly: rejected. Seams show: what is stored is not what the model gives in one piece, in 1 of 3 places computed "
        "anew, most of all in section 2, rows 96 to 159, columns 0 to 63 (where tiles meet at row 128): 12.50 % of the "
        "voxels differ, by up to 9 of 256 levels."
    )
    seen = BROKEN.beside(anew).describe()
    assert seen.endswith("256 levels; at row 256: much"), "both are told"


def test_places_that_are_what_is_stored_are_told_of() -> None:
    place = RecomputedPlace(section=0, rows=(0, 64), columns=(0, 64), plane="inside a tile", share=0.0, levels=0)
    anew = Recomputed(places=(place, place), most_levels=1, most_share=0.002)
    assert judge(scored(seams=WHOLE.beside(anew)), "iou >= .6")[0] == "accepted"
    assert anew.describe() == "2 places, computed anew in one piece, are exactly what is stored"
    assert WHOLE.describe_recomputed().endswith("so seams are judged by what shows alone")
    assert Recomputed(why="the model is gone").describe() == "no place was computed anew: the model is gone"


def test_where_no_seam_can_be_none_shows() -> None:
    assert judge(scored(seams=SeamAudit(planes=0)), "seam_ratio <= 1.1")[0] == "accepted"
    # Blocks that end between sections cut none of them.
    between = SeamAudit(planes=2, planes_z=2, ratio_z=1.0)
    assert judge(scored(seams=between), "seam_ratio <= 1.1")[0] == "accepted"
    assert between.describe() == "no seam can show within a section: each was computed in one piece"
    shown = between.model_copy(update={"shows": True, "where": "before section 8"})
    assert judge(scored(seams=shown), "seam_ratio <= 1.1")[0] == "rejected"
    state, _ = judge(scored(seams=SeamAudit(planes=3, planes_z=2), model=MODEL), "seam_ratio <= 1.1")
    assert state == "review"
    state, sentence = judge(scored(seams=SeamAudit(planes=1), model=MODEL), "seam_ratio <= 1.1")
    assert state == "review"
    assert "seams were not measured" in sentence


def test_a_volume_that_failed_is_rejected() -> None:
    failed = VolumeScores(name="fly", state="failed", reason="the disk was full")
    state, sentence = judge(failed, "iou >= .6")
    assert (state, sentence) == ("rejected", "fly: rejected. It failed: the disk was full.")
    assert judge(failed)[0] == "rejected"


def test_sections_are_counted_once_however_many_flags_they_have() -> None:
    assert scored().sections_flagged is None
    twice = scored(
        flags=[{"section": 3, "kind": kind, "reason": ""} for kind in ("blurred", "contrast")],
        quality=[{"section": 3}],
    )
    assert twice.sections_flagged == 1


def test_a_score_that_is_not_defined_says_why() -> None:
    mask = MASK.model_copy(update={"rand": None, "undefined": {"rand": "the truth holds no cell"}})
    state, sentence = judge(scored(scores=Scores(model=mask), model=MODEL), "v_rand >= .9")
    assert (state, sentence) == ("review", "fly: to be reviewed. V_rand cannot be judged: the truth holds no cell.")


def test_criteria_read_what_they_are_named_after() -> None:
    volume = scored(outside_fraction=0.25)
    read = {name: read_criterion(volume, criterion) for name, criterion in CRITERIA.items()}
    wanted = {"iou": 0.72, "precision": 0.8, "recall": 0.9, "v_rand": 0.96, "v_info": None, "ece": 0.02}
    wanted |= {"seam_ratio": 1.01, "outside_fraction": 0.25, "expected_iou": None, "sections_flagged": None}
    assert {name: read[name] for name in wanted} == wanted


def test_a_run_is_what_its_worst_volume_is() -> None:
    def of(*rules: str, **changes: Any) -> VolumeScores:
        volume = scored(**changes)
        return volume.model_copy(update={"verdict": judge_volume(volume, parse_rules(rules))})

    good, open_, bad = of("iou >= .6"), of(), of("iou >= .9")
    assert judge_run([good]).sentence == "Accepted: of 1 volume, 1 accepted."
    assert judge_run([good, open_]).state == "review"
    assert judge_run([good, bad, open_]).sentence == (
        "Rejected: of 3 volumes, 1 accepted, 1 to be reviewed, 1 rejected."
    )
    assert judge_run([]).state == "review"


rules = st.lists(st.sampled_from(["iou >= .6", "iou >= .9", "expected_iou >= .5", "v_info >= .5", "ece <= .1"]))


@given(rules, st.sampled_from([WHOLE, BROKEN]))
def test_accepted_means_that_all_that_was_asked_was_measured_and_met(texts: list[str], seams: SeamAudit) -> None:
    found = judge_volume(scored(seams=seams), parse_rules(texts))
    if found.state == "accepted":
        assert texts
        assert not seams.shows
        assert all(rule.met for rule in found.rules)
    for rule in found.rules:
        assert not (rule.met and rule.why)
    more = judge_volume(scored(seams=seams), parse_rules([*texts, "iou >= .99"]))
    assert more.state == "rejected"
