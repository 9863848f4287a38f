from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from segem.config.baseline import BASELINE_NAMES
from segem.errors import WorkspaceError
from segem.io.files import new_directory
from segem.io.run import note_failure
from segem.io.workspace import Workspace
from segem.records.quality import SectionFlag
from segem.records.scores import (
    Baseline,
    LayerScores,
    ReliabilityBin,
    Report,
    Scores,
    SectionScores,
    SeenSections,
    ThresholdPoint,
    VolumeScores,
)
from segem.stages.reporting.charts import draw_iou, draw_reliability, draw_volume
from segem.stages.reporting.choice import choose_sections
from segem.stages.reporting.error_maps import read_error_map
from segem.stages.reporting.evaluate import evaluate
from segem.stages.reporting.expected import NO_REFERENCE
from segem.stages.reporting.opening import name_baseline, summarise
from segem.stages.reporting.page import render_pages
from segem.stages.reporting.pictures import draw_pictures
from segem.stages.reporting.read import read_report
from segem.stages.reporting.write import report
from tests.fabricate import add_baseline, add_model, add_volume, guess, new_workspace, tissue

RUN = "r1"
DESIGNED_KEYS = {"name", "sections", "iou", "expected_iou", "v_rand", "v_info", "seam_ratio", "warnings"}


@pytest.fixture
def workspace(tmp_path):
    return new_workspace(tmp_path / "w")


@pytest.fixture
def mixed(workspace):
    """A run with a labelled, an unlabelled and a failed volume."""
    return fill_mixed(workspace)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the report of such a run, for tests that change nothing."""
    return report(RUN, fill_mixed(new_workspace(tmp_path_factory.mktemp("written") / "w")))


def fill_mixed(workspace):
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


def test_json_has_the_keys_scripts_rely_on(written):
    values = json.loads(written.json.read_text())
    scores = read_report(written.index.parent)
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


def read_table(result):
    with result.csv.open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_has_a_row_for_each_score(written):
    fly = json.loads(written.json.read_text())["volumes"][0]
    rows = read_table(written)
    assert list(rows[0]) == ["volume", "section", "mask", "method", "score", "value", "low", "high"]
    values = {(row["section"], row["mask"], row["score"]): float(row["value"]) for row in rows}
    assert len(values) == len(rows), "one row a score"
    assert values["all", "model", "iou"] == pytest.approx(fly["iou"]["model"], abs=1e-6)
    assert values["all", "baseline", "iou"] == pytest.approx(fly["iou"]["baseline"], abs=1e-6)
    assert values["all", "model", "v_info"] == pytest.approx(fly["v_info"], abs=1e-6)
    assert values["all", "model", "cl_dice"] == pytest.approx(fly["scores"]["model"]["cl_dice"], abs=1e-6)
    assert values["1", "model", "merges"] == fly["per_section"][1]["merges"]
    assert values["2", "model", "iou"] == 0
    assert {section for section, _, _ in values} == {"all", "0", "1", "2", "3"}
    # What was not measured has no row: neither the volume without truth nor the one that failed.
    assert {row["volume"] for row in rows} == {"fly"}
    # Of section 2 the model has no mask at all, so no border of it can be right or wrong.
    assert ("2", "model", "precision") not in values


def test_page_is_self_contained_and_escaped(written):
    text = written.index.read_text()
    tags = Tags(text).found
    assert not {"iframe", "object", "embed"} & {tag for tag, _ in tags}
    folder = written.index.parent
    for tag, attributes in tags:
        for key in ("src", "href", "srcset", "data", "action", "poster"):
            place = attributes.get(key) or "#"
            if not place.startswith(("data:", "#")):
                # No address, and nothing but what lies in the folder of the report.
                assert (folder / place).resolve().is_relative_to(folder), f"{tag} {key}: {place}"
                assert (folder / place).is_file(), f"{tag} {key}: {place}"
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert "section 2 is &lt;b&gt;dark&lt;/b&gt;" in text
    assert "torn.tif: ends after &lt;12&gt; kB" in text
    assert "not measured: no ground truth" in text
    assert all(attributes["alt"] for tag, attributes in tags if tag == "img")
    assert all(attributes.get("scope") in {"row", "col"} for tag, attributes in tags if tag == "th")


def test_every_figure_is_explained_and_has_its_numbers(written):
    text = written.index.read_text()
    figures = re.findall(r"<figure>.*?</figure>", text, re.DOTALL)
    charts = [one for one in figures if "<svg" in one]
    titles = [re.search(r"<h5>(.*?)</h5>", chart)[1] for chart in charts]
    assert titles == [
        "How good is that?", "IoU along z", "Scores at other thresholds", "Are the probabilities right?",
        "Where does the model hesitate?", "Where does the model hesitate?",
    ]  # fmt: skip
    for chart in charts:
        assert re.findall(r"<dt>(\w+)</dt>", chart) == ["Shown", "Good", "Bad", "Do"]
        assert "<table>" in chart
        assert re.search(r'<svg role="img" aria-label="[^"]+"', chart)
    # Ids of different charts would collide, and a report that is written again is the same.
    ids = re.findall(r' id="([^"]+)"', "".join(charts))
    assert len(set(ids)) == len(ids)


def test_the_only_script_is_allowed_by_its_digest(written):
    text = written.index.read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;;" in text
    assert "default-src &#39;none&#39;" in text


def test_pictures_show_lowest_median_and_highest_section_and_the_worst_regions(written):
    folder = written.index.parent
    values = json.loads(written.json.read_text())["volumes"][0]["per_section"]
    ranked = sorted(range(4), key=lambda z: values[z]["iou_model"])
    files = {path.name for path in (folder / "pictures").iterdir()}
    masks, others = ("truth", "baseline", "model"), ("raw", "probability", "errors")
    shown = {f"fly-{z:04d}-{kind}.png" for z in (ranked[0], ranked[1], ranked[3]) for kind in masks}
    shown |= {f"fly-{z:04d}-{kind}.jpg" for z in (ranked[0], ranked[1], ranked[3]) for kind in others}
    shown |= {f"blind-{z:04d}-{kind}.png" for z in range(3) for kind in ("baseline", "model")}
    shown |= {f"blind-{z:04d}-{kind}.jpg" for z in range(3) for kind in ("raw", "probability", "overlay")}
    regions = files - shown
    assert shown <= files
    assert len(regions) == 3 * 6 + 3 * 5
    # The section without any membrane found is the worst, and so is a region of it.
    assert any(name.startswith("fly-0002-y0-x") for name in regions)
    with Image.open(folder / "pictures" / "fly-0002-errors.jpg") as picture:
        assert (picture.size, picture.mode) == ((600, 96), "RGB")
    text = written.index.read_text()
    assert text.count("data:image/jpeg;base64,") == len(files)
    assert "Model (empty)" in text


def test_every_section_can_be_looked_through_without_a_script(written):
    text = written.index.read_text()
    for name, sections in (("fly", 4), ("blind", 3)):
        files = [f"sections/{name}-{z:04d}.jpg" for z in range(sections)]
        assert all(f'<a href="{file}">' in text for file in files)
        for file in files:
            with Image.open(written.index.parent / file) as picture:
                assert picture.size == (600, 48), "raw, and beside it what was found, at half the size"


def test_the_report_folder_is_whole_or_absent(mixed, monkeypatch):
    first = report(RUN, mixed)
    before = first.index.read_bytes()

    def broken(*_):
        raise WorkspaceError("the disk refused")

    monkeypatch.setattr("segem.stages.reporting.write.render_pages", broken)
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
    rows = [row for row in read_table(result) if row["score"] == "iou"]
    assert [(row["mask"], row["value"]) for row in rows] == [("baseline", "1.000000")] * 3


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
    rows = [row for row in read_table(result) if row["score"] == "iou"]
    assert [(row["method"], row["value"]) for row in rows] == [(method, "1.000000")] * 3
    page = result.index.read_text()
    assert f"IoU {BASELINE_NAMES[method]}</th>" in page
    for text in (result.json.read_text(), result.csv.read_text(), page):
        assert not re.search(r"K-means(?! on features)|kmeans(?!-features)", text)
    assert (result.index.parent / "pictures" / "fly-0000-baseline.png").is_file()


def test_a_table_of_two_methods_says_which_is_whose(workspace):
    image, truth = tissue((1, 48, 48))
    for name, method in (("a", "kmeans"), ("b", "watershed")):
        add_volume(workspace, name, image, truth)
        add_baseline(workspace, RUN, name, truth, method=method)
    rows = [row for row in read_table(report(RUN, workspace)) if (row["score"], row["section"]) == ("iou", "all")]
    assert [(row["volume"], row["method"]) for row in rows] == [("a", "kmeans"), ("b", "watershed")]


def test_a_report_is_read_back_as_it_was_written(written):
    found = read_report(written.index.parent)
    assert json.loads(written.json.read_text()) == found.model_dump(mode="json")
    assert found == evaluate(RUN, Workspace(written.index.parents[3]))


def test_a_report_written_again_is_the_same(workspace):
    image, truth = tissue((2, 48, 48))
    add_volume(workspace, "fly", image, truth)
    add_model(workspace, RUN, "fly", guess(truth))
    first = {path.name: path.read_bytes() for path in report(RUN, workspace).index.parent.rglob("*") if path.is_file()}
    again = {path.name: path.read_bytes() for path in report(RUN, workspace).index.parent.rglob("*") if path.is_file()}
    assert first == again


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"schema": 2', '"schema": 1'),
        lambda text: text.replace('"iou_baseline"', '"iou_kmeans"'),
    ],
)
def test_a_damaged_or_older_report_is_refused_in_one_line(written, tmp_path, change):
    folder = tmp_path / RUN / "report"
    folder.mkdir(parents=True)
    with pytest.raises(WorkspaceError):
        read_report(folder)
    (folder / "report.json").write_text(change(written.json.read_text()))
    with pytest.raises(WorkspaceError, match=f"damaged, or of another version .*`segem report {RUN}`"):
        read_report(folder)


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
    values = [0.8, 0.9, 0.5, 0.7, 0.6]
    sections = tuple(scores(z, value) for z, value in enumerate(values))
    scored = complete("a", sections=5, per_section=sections, scores=Scores(model=layer(0.7)))
    assert choose_sections(scored) == {
        2: "lowest IoU of the model: 0.500",
        3: "median IoU of the model: 0.700",
        1: "highest IoU of the model: 0.900",
    }
    alone = scored.model_copy(update={"per_section": sections[:1]})
    assert choose_sections(alone) == {0: "lowest, median and highest IoU of the model: 0.800"}
    clustered = complete("a", sections=1, per_section=(scores(0, None),), scores=Scores(baseline=layer(0.4)))
    assert choose_sections(clustered) == {0: "lowest, median and highest IoU of the baseline: 0.400"}
    assert choose_sections(complete("a", sections=5)) == {0: "first", 2: "middle", 4: "last"}
    assert choose_sections(complete("a", sections=1)) == {0: "first, middle, last"}
    flagged = complete("a", sections=5, flags=(SectionFlag(section=3, kind="noise", reason="noisy"),))
    assert choose_sections(flagged)[3] == "stands out"
    assert choose_sections(VolumeScores(name="a", state="failed")) == {}


def test_a_chart_of_many_sections_stays_light():
    values = [0.5] * 3000
    values[1234] = 0.1
    chart = draw_iou(complete("a", per_section=tuple(scores(z, value, 0.51) for z, value in enumerate(values))))
    assert len(chart.svg) < 30_000
    assert len(chart.table.rows) == 3000
    assert draw_iou(complete("a", per_section=(scores(0, 0.5),))) is None


def test_chart_leaves_out_what_was_not_scored():
    chart = draw_iou(complete("a", per_section=tuple(scores(z, 0.5, None) for z in range(3))))
    assert chart.summary == "Membrane IoU of each section. Model: 0.500 to 0.500."
    assert "Baseline" not in chart.svg
    assert [row[1] for row in chart.table.rows] == ["not defined"] * 3


def test_sections_that_the_model_has_used_are_named_under_every_chart():
    seen = (SeenSections(use="training", sections=((0, 2),)), SeenSections(use="calibration", sections=((2, 3),)))
    said = "Includes sections that the model was trained on (sections 0 to 1), has its calibration from (section 2)."
    used = complete(
        "a",
        per_section=tuple(scores(z, 0.5) for z in range(3)),
        seen=seen,
        reliability=BINS,
        threshold_curve=(ThresholdPoint(threshold=0.5, iou=0.5, precision=None, recall=1),),
    )
    assert [chart.after == said for chart in draw_volume(used)] == [True] * 3
    assert not any(chart.after for chart in draw_volume(used.model_copy(update={"seen": ()})))


BINS = (
    ReliabilityBin(voxels=5, probability=0.0, membrane=1.0),
    ReliabilityBin(voxels=15, probability=1.0, membrane=0.0),
)


def test_reliability_is_drawn_where_there_is_truth(written):
    (fly, *_) = json.loads(written.json.read_text())["volumes"]
    text = written.index.read_text()
    assert text.count("Are the probabilities right?</h5>") == 1
    assert f"Expected calibration error (ECE): {fly['ece']:.3f}." in text
    chart = draw_reliability(complete("a", reliability=BINS, ece=1.0))
    assert chart.table.rows == (("0.000", "1.000", "25.0 %"), ("1.000", "0.000", "75.0 %"))
    assert draw_reliability(complete("a", reliability=BINS[:1])) is None


def test_a_baseline_is_called_by_its_name():
    flooded, clustered = (complete("a", baseline=Baseline(method=method)) for method in ("watershed", "kmeans"))
    runs = ((flooded,), (clustered,), (flooded, clustered), ())
    assert [name_baseline(EMPTY.model_copy(update={"volumes": volumes})) for volumes in runs] == [
        "watershed", "K-means", None, None,
    ]  # fmt: skip
    chart = draw_iou(flooded.model_copy(update={"per_section": tuple(scores(z, 0.5) for z in range(3))}))
    assert chart.summary.endswith("Watershed: 0.400 to 0.400.")
    assert chart.table.head[1] == "IoU watershed"


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


@pytest.mark.slow
def test_fifty_volumes_stay_light(written):
    """The first page has at most 5,000 elements and 10 MB, and each volume its own page."""
    folder = written.index.parent
    found = read_report(folder)
    fly = found.volumes[0]
    names = [f"fly-{n}" for n in range(50)]
    many = found.model_copy(update={"volumes": tuple(fly.model_copy(update={"name": name}) for name in names)})
    space = Workspace(folder.parents[2])
    with new_directory(folder.with_name("again")) as partial:
        pictures = draw_pictures(RUN, fly, space, partial)
    errors = read_error_map(folder, "fly")
    maps = {name: errors.model_copy(update={"volume": name}) for name in names}
    pages = render_pages(many, dict.fromkeys(names, pictures), "", None, maps)
    assert list(pages) == ["index.html", *(f"volumes/{name}.html" for name in names)]
    assert len(re.findall(r"<[a-zA-Z]", pages["index.html"])) < 5000
    assert max(map(len, pages.values())) < 10_000_000


def test_an_empty_run_has_a_page():
    assert summarise(EMPTY) == "Nothing was measured in this run."
    (page,) = render_pages(EMPTY, {}, "", None, {}).values()
    assert "no volumes yet" in page
