from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from segem.config import parse_rules
from segem.config.accept import CRITERIA, Rule
from segem.config.manifest import Manifest
from segem.errors import ConfigError


def read(text: str) -> Rule:
    return Rule.model_validate(text)


@pytest.mark.parametrize(
    ("text", "score", "comparison", "bound"),
    [
        ("iou >= .65", "iou", ">=", 0.65),
        ("IoU >= .65", "iou", ">=", 0.65),
        ("V_rand >= .9", "v_rand", ">=", 0.9),
        ("v_rand>.95", "v_rand", ">", 0.95),
        ("  seam_ratio   <= 1.1 ", "seam_ratio", "<=", 1.1),
        ("sections_flagged < 3", "sections_flagged", "<", 3),
        ("expected_iou >= 0.6", "expected_iou", ">=", 0.6),
    ],
)
def test_rules_are_read(text: str, score: str, comparison: str, bound: float) -> None:
    rule = read(text)
    assert (rule.score, rule.comparison, rule.bound) == (score, comparison, bound)
    assert read(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "such as iou >= .65"),
        ("iou", "such as iou >= .65"),
        ("iou = .65", "such as iou >= .65"),
        ("iou >= -.1", "such as iou >= .65"),
        ("iou >= 65%", "such as iou >= .65"),
        ("iou >= 1e-1", "such as iou >= .65"),
        ("iou >= nan", "such as iou >= .65"),
        ("iou >= .6 and recall >= .7", "such as iou >= .65"),
        (".65 <= iou", "such as iou >= .65"),
        ("iou => .65", "such as iou >= .65"),
        ("jaccard >= .65", "no score is called jaccard; scores are iou, dice, precision"),
        ("iou <= .65", "iou is good where it is high; ask for iou >="),
        ("seam_ratio >= 1.1", "seam_ratio is good where it is low; ask for seam_ratio <="),
        ("iou >= 65", "iou is never above 1"),
    ],
)
def test_what_is_no_rule_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rules([text], where="m.yaml")
    assert words in str(caught.value)
    assert "m.yaml" in str(caught.value)


def test_a_manifest_says_which_rule_is_wrong() -> None:
    volumes = [{"name": "v", "source": "v.tif", "voxel_nm": [50, 4, 4]}]
    with pytest.raises(ValidationError, match="no score is called jaccard"):
        Manifest.model_validate({"name": "m", "volumes": volumes, "accept": ["iou >= .6", "jaccard >= .5"]})
    with pytest.raises(ValidationError, match="a rule is text"):
        Manifest.model_validate({"name": "m", "volumes": volumes, "accept": [{"iou": 0.6}]})


def test_rules_judge_a_run_but_do_not_make_it_another() -> None:
    volumes = [{"name": "v", "source": "v.tif", "voxel_nm": [50, 4, 4]}]
    plain = Manifest.model_validate({"name": "m", "volumes": volumes})
    ruled = Manifest.model_validate({"name": "m", "volumes": volumes, "accept": ["iou >= .6"]})
    assert ruled.model_dump(mode="json")["accept"] == ["iou >= 0.6"]
    assert Manifest.model_validate(ruled.model_dump(mode="json")) == ruled
    assert plain.config_hash() == ruled.config_hash()


@given(
    st.sampled_from(sorted(CRITERIA)),
    st.floats(0, 1),
    st.floats(0, 1).map(lambda value: round(value, 9)),
    st.booleans(),
)
def test_words_and_outcome_agree(score: str, bound: float, value: float, strict: bool) -> None:
    comparison = (">" if CRITERIA[score].better == "high" else "<") + ("" if strict else "=")
    rule = Rule.model_validate(f"{score} {comparison} {bound:.3f}")
    words = rule.describe(value)
    assert (" is not " in words) is not rule.holds(value)
    shown = float(words.removeprefix(CRITERIA[score].title).split()[0])
    assert rule.holds(shown) == rule.holds(value), "the number shown tells the same"


def test_a_value_that_is_no_number_meets_no_rule() -> None:
    assert not read("iou >= 0").holds(math.nan)
    assert not read("seam_ratio <= 9").holds(math.nan)
