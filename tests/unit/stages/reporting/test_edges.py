"""Reports of volumes that have little to score: a page all the same, and no number where there is none."""

from __future__ import annotations

import json
import re

import jsonschema
import numpy as np
import pytest

from segem.records.scores import Report
from segem.stages.reporting.read import read_report
from segem.stages.reporting.write import report
from tests.fabricate import add_baseline, add_model, add_volume, guess, new_workspace, tissue

IMAGE, TRUTH = tissue((3, 64, 64))
GUESS = guess(TRUTH)
NONE, ALL = np.zeros_like(TRUTH), np.ones_like(TRUTH)
# Truth and probability of each volume.
VOLUMES = {
    "no-membrane": (NONE, GUESS),
    "all-membrane": (ALL, GUESS),
    "nothing-found": (TRUTH, NONE),
    "all-found": (TRUTH, ALL * 255),
    "unknown": (np.full_like(TRUTH, 2), GUESS),
    "half-unknown": (np.concatenate([TRUTH[:1], np.full_like(TRUTH[1:], 2)]), GUESS),
    "one-section": (TRUTH[:1], GUESS[:1]),
    "blind": (None, NONE),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    space = new_workspace(tmp_path_factory.mktemp("edges") / "w")
    for name, (truth, probability) in VOLUMES.items():
        add_volume(space, name, IMAGE[: len(probability)], truth)
        add_baseline(space, "r", name, (IMAGE[: len(probability)] < 120).astype(np.uint8))
        add_model(space, "r", name, probability)
    return report("r", space)


@pytest.fixture(scope="module")
def parts(written):
    """What is said of each volume."""
    # So many volumes have a page each.
    return {name: (written.index.parent / "volumes" / f"{name}.html").read_text() for name in VOLUMES}


def test_each_has_its_page(written, parts):
    first = written.index.read_text()
    assert all(f'href="volumes/{name}.html"' in first for name in VOLUMES)
    for page in (first, *parts.values()):
        assert not re.search(r">\s*(?:nan|inf|None)\s*<", page)
    assert all("Raw</figcaption>" in part for part in parts.values())


def test_where_nothing_can_be_scored_there_is_no_score(written, parts):
    volumes = {one.name: one for one in read_report(written.index.parent).volumes}
    for name, why in (
        ("no-membrane", "the ground truth holds no membrane"),
        ("unknown", "no ground truth"),
        ("blind", "no ground truth"),
    ):
        assert not volumes[name].measured
        assert f"not measured: {why}" in parts[name]
        assert '<table class="scores">' not in parts[name]
    assert volumes["half-unknown"].measured


def test_scores_that_are_not_defined_are_called_so(parts):
    # A truth of membrane alone holds no cell; a mask without membrane has no precision.
    for name, scores in (("all-membrane", ("V_rand", "V_info")), ("nothing-found", ("Precision",))):
        said = re.search(r'<p class="small">Not defined: (.*?)</p>', parts[name])[1]
        assert all(score in said for score in scores)
        assert "<td>not defined" in parts[name]
    assert "Model (empty)" in parts["nothing-found"]
    assert "<td>0.000" in parts["nothing-found"], "an empty mask finds none of the membrane"


def test_too_little_tissue_has_no_interval_and_says_why(parts):
    assert "None for IoU, Precision, Recall: " in parts["one-section"]
    assert "or more are needed" in parts["one-section"]


def test_the_json_file_follows_its_schema(written):
    values = json.loads(written.json.read_text())
    schema = Report.model_json_schema(mode="serialization")
    jsonschema.validate(values, schema)
    broken = values | {"volumes": [values["volumes"][0] | {"state": "fine"}]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)
