from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from segem.config.baseline import BASELINE_NAMES
from segem.errors import WorkspaceError
from segem.io.run import note_failure
from segem.records.scores import Baseline, LayerScores, ReliabilityBin, Report, Scores, SectionScores, VolumeScores
from segem.stages.reporting.charts import lay_out_iou, lay_out_reliability
from segem.stages.reporting.evaluate import evaluate
from segem.stages.reporting.expected import NO_REFERENCE
from segem.stages.reporting.page import name_baseline, render_page, summarise
from segem.stages.reporting.write import choose_sections, read_report, report
from tests.fabricate import add_baseline, add_model, add_volume, guess, new_workspace, tissue

RUN = "r1"
DESIGNED_KEYS = {"name", "sections", "iou", "expected_iou", "v_rand", "v_info", "seam_ratio", "warnings"}


@pytest.fixture
def workspace(tmp_path):
    return new_workspace(tmp_path / "w")


@pytest.fixture
def mixed(workspace):
    """A run with a labelled, an unlabelled and a failed volume."""
    image, truth = tissue((4, 96, 600))
    add_volume(workspace, "fly", image, truth, warnings=["section 2 is <b>dark</b>"])
    add_baseline(workspace, RUN, "fly", (image < 120).astype(np.uint8))
    probability = guess(truth)
    probability[2] = 0
    add_model(workspace, RUN, "fly", probability, core_px=48)
    add_volume(workspace, "blind", image[:3])
    add_baseline(workspace, RUN, "blind", (image[:3] < 120).astype(np.uint8))
    add_model(workspace, RUN, "blind", probability[:3])
    note_failure(workspace, RUN, "torn", "torn.tif: ends after <12> kB")
    return workspace


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_json_has_the_keys_scripts_rely_on(mixed):
    result = report(RUN, mixed)
    values = json.loads(result.json.read_text())
    scores = evaluate(RUN, mixed)
    fly, blind, torn = values["volumes"]
    assert values["run"] == RUN
    assert values["model"] == {"name": "unet-em", "digest": "ab" * 32}
    assert all(volume.keys() >= DESIGNED_KEYS for volume in values["volumes"])
    assert values["schema"] == 2
    found = scores.volumes[0].scores
    assert fly["iou"] == {"model": found.model.iou, "baseline": found.baseline.iou}
    assert [fly[key] for key in ("precision", "recall")] == [found.model.precision, found.model.recall]
    assert [fly[key] for key in ("v_rand", "v_info")] == [found.model.rand.value, found.model.information.value]
    assert fly["seam_ratio"] == scores.volumes[0].seam_ratio > 0
    assert fly["sections"] == len(fly["per_section"]) == 4
    assert fly["baseline"] == {"method": "kmeans", "name": "K-means"}
    assert fly["expected_iou"] == {"abstains": NO_REFERENCE, "reasons": []}
    assert torn["expected_iou"] is None
    assert fly["ece"] == scores.volumes[0].ece > 0
    assert fly["reliability"] == [one.model_dump() for one in scores.volumes[0].reliability]
    assert fly["warnings"] == ["section 2 is <b>dark</b>"]
    assert (blind["iou"], blind["v_rand"], blind["note"]) == (None, None, "not measured: no ground truth")
    assert (blind["ece"], blind["reliability"]) == (None, [])
    assert (torn["iou"], torn["state"], torn["reason"]) == (None, "failed", "torn.tif: ends after <12> kB")


def test_table_has_a_row_for_each_volume_and_section(mixed):
    result = report(RUN, mixed)
    values = json.loads(result.json.read_text())
    with result.csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "volume", "section", "sections", "baseline_method", "iou_baseline", "iou_model",
        "precision", "recall", "v_rand", "v_info",
        "mean_iou", "dice", "iou_outside_band", "boundary_f1", "cl_dice", "adapted_rand_error", "voi_split",
        "voi_merge", "merges", "splits",
    ]  # fmt: skip
    assert [(r["volume"], r["section"]) for r in rows] == [
        ("fly", "all"), ("fly", "0"), ("fly", "1"), ("fly", "2"), ("fly", "3"), ("blind", "all"), ("torn", "all"),
    ]  # fmt: skip
    assert float(rows[0]["iou_model"]) == pytest.approx(values["volumes"][0]["iou"]["model"], abs=1e-6)
    assert float(rows[0]["v_info"]) == pytest.approx(values["volumes"][0]["v_info"], abs=1e-6)
    assert rows[3]["iou_model"] == "0.000000"
    assert [rows[5][key] for key in ("sections", "iou_baseline", "iou_model", "v_rand")] == ["3", "", "", ""]
    assert rows[6]["sections"] == ""


def test_page_is_self_contained_and_escaped(mixed):
    text = report(RUN, mixed).index.read_text()
    tags = Tags(text).found
    assert not {"script", "iframe", "object", "embed"} & {tag for tag, _ in tags}
    for tag, attributes in tags:
        for key in ("src", "href", "srcset", "data", "action", "poster"):
            assert re.match(r"data:|#", attributes.get(key) or "#"), f"{tag} {key} points outside"
    assert "@import" not in text
    assert "url(" not in text
    assert "section 2 is &lt;b&gt;dark&lt;/b&gt;" in text
    assert "torn.tif: ends after &lt;12&gt; kB" in text
    assert "not measured: no ground truth" in text
    assert all(attributes["alt"] for tag, attributes in tags if tag == "img")
    assert all(attributes.get("scope") in {"row", "col"} for tag, attributes in tags if tag == "th")


def test_pictures_show_first_worst_and_last_section(mixed):
    result = report(RUN, mixed)
    files = sorted(path.name for path in result.index.parent.glob("*.png"))
    kinds = ("errors", "baseline", "model", "raw", "truth")
    expected = [f"fly-{z:04d}-{kind}.png" for z in (0, 2, 3) for kind in kinds]
    expected += [f"blind-{z:04d}-{kind}.png" for z in (0, 1, 2) for kind in ("baseline", "model", "overlay", "raw")]
    assert files == sorted(expected)
    with Image.open(result.index.parent / "fly-0002-errors.png") as picture:
        assert picture.size == (300, 48)
        assert picture.mode == "RGB"
    assert result.index.read_text().count("data:image/png;base64,") == len(expected)


def test_the_report_folder_is_whole_or_absent(mixed, monkeypatch):
    first = report(RUN, mixed)
    before = first.index.read_bytes()

    def broken(*_):
        raise WorkspaceError("the disk refused")

    monkeypatch.setattr("segem.stages.reporting.write.render_page", broken)
    with pytest.raises(WorkspaceError):
        report(RUN, mixed)
    assert first.index.read_bytes() == before
    assert not list(mixed.run(RUN).glob(".*partial"))


def test_a_damaged_picture_does_not_stop_the_report(mixed, caplog):
    shard = next(p for p in (mixed.volume("blind") / "0" / "c").rglob("*") if p.is_file())
    data = bytearray(shard.read_bytes())
    data[60] ^= 1
    shard.write_bytes(data)
    values = json.loads(report(RUN, mixed).json.read_text())
    (warning,) = (warning for warning in values["volumes"][1]["warnings"] if "no pictures" in warning)
    assert f"blind: {warning}" in caplog.messages
    assert values["volumes"][0]["iou"]["model"] > 0


def test_a_run_of_kmeans_alone_has_a_report(workspace):
    image, truth = tissue((2, 48, 48))
    add_volume(workspace, "fly", image, truth)
    add_baseline(workspace, RUN, "fly", truth)
    result = report(RUN, workspace)
    values = json.loads(result.json.read_text())
    assert values["model"] is None
    assert values["volumes"][0]["iou"] == {"model": None, "baseline": 1.0}
    with result.csv.open(newline="") as file:
        assert [row["iou_baseline"] for row in csv.DictReader(file)] == ["1.000000"] * 3


@pytest.mark.parametrize("method", ["watershed", "kmeans-features"])
def test_a_baseline_by_another_method_never_passes_for_kmeans(workspace, method):
    image, truth = tissue((2, 48, 48))
    add_volume(workspace, "fly", image, truth)
    add_baseline(workspace, RUN, "fly", truth, method=method)
    result = report(RUN, workspace)
    (fly,) = json.loads(result.json.read_text())["volumes"]
    assert fly["iou"] == {"model": None, "baseline": 1.0}
    assert fly["baseline"] == {"method": method, "name": BASELINE_NAMES[method]}
    assert fly["scores"]["baseline"]["iou"] == fly["per_section"][0]["iou_baseline"] == 1.0
    with result.csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["baseline_method"], row["iou_baseline"]) for row in rows] == [(method, "1.000000")] * 3
    page = result.index.read_text()
    assert f"IoU {BASELINE_NAMES[method]}</th>" in page
    for text in (result.json.read_text(), result.csv.read_text(), page):
        assert not re.search(r"K-means(?! on features)|kmeans(?!-features)", text)
    assert (result.index.parent / "fly-0000-baseline.png").is_file()


def test_a_table_of_two_methods_says_which_is_whose(workspace):
    image, truth = tissue((1, 48, 48))
    for name, method in (("a", "kmeans"), ("b", "watershed")):
        add_volume(workspace, name, image, truth)
        add_baseline(workspace, RUN, name, truth, method=method)
    with report(RUN, workspace).csv.open(newline="") as file:
        first, _, second, _ = csv.DictReader(file)
    assert (first["baseline_method"], first["iou_baseline"]) == ("kmeans", "1.000000")
    assert (second["baseline_method"], second["iou_baseline"]) == ("watershed", "1.000000")


def test_a_report_is_read_back_as_it_was_written(mixed):
    result = report(RUN, mixed)
    found = read_report(result.index.parent)
    assert json.loads(result.json.read_text()) == found.model_dump(mode="json")
    assert found == evaluate(RUN, mixed)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"schema": 2', '"schema": 1'),
        lambda text: text.replace('"iou_baseline"', '"iou_kmeans"'),
    ],
)
def test_a_damaged_or_older_report_is_refused_in_one_line(mixed, change):
    result = report(RUN, mixed)
    result.json.write_text(change(result.json.read_text()))
    with pytest.raises(WorkspaceError, match=f"damaged, or of another version .*`segem report {RUN}`"):
        read_report(result.index.parent)
    result.json.unlink()
    with pytest.raises(WorkspaceError):
        read_report(result.index.parent)


def test_unknown_run(workspace):
    with pytest.raises(WorkspaceError, match="no such run"):
        report("never", workspace)


def scores(section, model, baseline=0.4):
    return SectionScores(
        section=section, iou_baseline=baseline, iou_model=model, precision=1, recall=1, v_rand=1, v_info=1
    )


def complete(name, **values):
    return VolumeScores(name=name, state="complete", **values)


def test_chosen_sections():
    values = [0.8, 0.9, 0.5, 0.7]
    sections = tuple(scores(z, value) for z, value in enumerate(values))
    assert choose_sections(complete("a", sections=4, per_section=sections)) == {
        0: "first",
        2: "lowest IoU of the model",
        3: "last",
    }
    assert choose_sections(complete("a", sections=5)) == {0: "first", 2: "middle", 4: "last"}
    assert choose_sections(complete("a", sections=1)) == {0: "first, middle, last"}
    assert choose_sections(VolumeScores(name="a", state="failed")) == {}


def test_chart_scales_and_keeps_names_apart():
    chart = lay_out_iou([scores(z, 0.5, 0.51) for z in range(3000)], "K-means")
    model, baseline = chart.lines
    assert len(model.points) <= 601
    assert model.points[0][0] == chart.left
    assert model.points[-1][0] == chart.right
    assert abs(model.end[1] - baseline.end[1]) >= 14
    assert len(chart.x_ticks) <= 13
    assert lay_out_iou([scores(0, 0.5)], "K-means") is None


def test_chart_leaves_out_what_was_not_scored():
    chart = lay_out_iou([scores(z, 0.5, None) for z in range(3)], "K-means")
    assert [line.kind for line in chart.lines] == ["model"]
    assert "K-means" not in chart.summary


def test_reliability_is_drawn_where_there_is_truth(mixed):
    result = report(RUN, mixed)
    (fly, *_) = json.loads(result.json.read_text())["volumes"]
    text = result.index.read_text()
    assert text.count("<h3>Calibration: share of membrane at each probability") == 1
    assert f"(ECE {fly['ece']:.3f})" in text
    bins = [
        ReliabilityBin(voxels=5, probability=0.0, membrane=1.0),
        ReliabilityBin(voxels=5, probability=1.0, membrane=0.0),
    ]
    model, ideal = lay_out_reliability(bins).lines
    assert set(model.points) == {(40, 12), (564, 184)}
    assert set(ideal.points) == {(40, 184), (564, 12)}
    assert lay_out_reliability(bins[:1]) is None


def test_a_baseline_is_called_by_its_name():
    flooded, clustered = (complete("a", baseline=Baseline(method=method)) for method in ("watershed", "kmeans"))
    runs = ((flooded,), (clustered,), (flooded, clustered), ())
    assert [name_baseline(EMPTY.model_copy(update={"volumes": volumes})) for volumes in runs] == [
        "watershed", "K-means", None, None,
    ]  # fmt: skip
    assert [line.name for line in lay_out_iou([scores(z, 0.5) for z in range(3)], "watershed").lines] == [
        "Model",
        "watershed",
    ]


EMPTY = Report(run="r", created="2026-01-01T00:00:00", segem_version="1", environment={}, model=None, volumes=())


def layer(iou):
    return LayerScores(iou=iou, precision=1, recall=1, rand=None, information=None)


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        ([(0.7, None)], "On a, the model reaches a membrane IoU of 0.700."),
        ([(None, 0.4)], "On a, K-means reaches a membrane IoU of 0.400."),
        ([(0.7, 0.4)], "On a, the model reaches a membrane IoU of 0.700 (K-means: 0.400)."),
        (
            [(0.7, None), (0.6, None)],
            "The model reaches a membrane IoU of 0.600 to 0.700 on 2 labelled volumes.",
        ),
        (
            [(None, 0.3), (None, 0.4)],
            "K-means reaches a membrane IoU of 0.300 to 0.400 on 2 labelled volumes.",
        ),
        ([(0.7, 0.4), (0.6, 0.5)], "The model reaches a higher membrane IoU than K-means on 2 of 2 volumes."),
        (
            [(0.7, 0.4), (0.3, 0.4), (0.6, None)],
            "The model reaches a higher membrane IoU than K-means on 1 of 2 volumes with both.",
        ),
    ],
)
def test_the_headline_says_what_was_measured(volumes, said):
    of = zip("abc", volumes, strict=False)
    complete_ones = tuple(
        complete(
            name,
            scores=Scores(model=model and layer(model), baseline=baseline and layer(baseline)),
            baseline=baseline and Baseline(method="kmeans"),
        )
        for name, (model, baseline) in of
    )
    assert summarise(EMPTY.model_copy(update={"volumes": complete_ones})) == said


def test_an_empty_run_has_a_page():
    assert summarise(EMPTY) == "Nothing was measured in this run."
    assert "no volumes yet" in render_page(EMPTY, {})
