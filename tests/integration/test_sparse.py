"""Sections of which a part is painted: from the command line to a model, a report and an export."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from segem.cli import main
from segem.config import SynthConfig
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.synth import synthesize
from segem.learn.artefact import find_model

SHAPE = (6, 96, 96)
SPLIT = {"train": [0, 3], "validation": [3, 4], "test": [4, 6]}
TINY = ("--steps", 4, "--batch", 2, "--option", "features=2", "--option", "depth=2", "--device", "cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def segem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["segem", *map(str, words)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0), *capsys.readouterr()


def painted(folder: Path, unpainted: dict[int, slice], split: dict[str, list[int]] = SPLIT) -> Path:
    """Write a stack whose labels are 255 on membrane and 128 in some rows of some sections; return its manifest."""
    em = synthesize(SynthConfig(shape=SHAPE, seed=1))
    labels = em.truth * np.uint8(255)
    for z, rows in unpainted.items():
        labels[z, rows] = 128
    tifffile.imwrite(folder / "raw.tif", em.image, photometric="minisblack")
    tifffile.imwrite(folder / "labels.tif", labels, photometric="minisblack")
    volume = {
        "name": "tissue",
        "source": "raw.tif",
        "voxel_nm": [50, 4, 4],
        "labels": {"source": "labels.tif", "membrane": "nonzero", "ignore": 128},
        "split": split,
    }
    manifest = folder / "m.yaml"
    manifest.write_text(yaml.safe_dump({"name": "m", "volumes": [volume]}))
    return manifest


def test_a_stack_with_three_fifths_unpainted_is_learned_scored_reported_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGEM_WORKSPACE", str(tmp_path / "w"))
    workspace = Workspace(tmp_path / "w")
    rows = dict.fromkeys(range(6), slice(32, None)) | {1: slice(None), 5: slice(None), 2: slice(0, 0)}
    manifest = painted(tmp_path, rows)

    code, _, err = segem(monkeypatch, capsys, "train", manifest, "--out", "mine", *TINY)
    assert code == 0, err
    (score,) = find_model("mine", workspace).card.scores
    assert 0 <= score.iou < 1
    assert score.ece is not None

    steps = (("baseline", "tissue", "--run", "r"), ("segment", "tissue", "--run", "r", "--model", "mine"))
    for words in (*steps, ("verify", "r"), ("report", "r")):
        code, _, err = segem(monkeypatch, capsys, *words)
        assert code == 0, err
    (found,) = json.loads(segem(monkeypatch, capsys, "evaluate", "r", "--json")[1])["volumes"]
    truth = np.asarray(Volume.open(workspace.volume("tissue")).label("truth")[...])
    known = truth != 2
    assert any(f"scored on the {known.mean():.1%} of the voxels" in told for told in found["warnings"])
    assert sum(one["voxels"] for one in found["reliability"]) == np.count_nonzero(known)
    mask = np.asarray(Volume.open(workspace.result("r", "tissue")).label("baseline")[...]) != 0
    both, either = (np.count_nonzero(pixels & known) for pixels in (mask & (truth == 1), mask | (truth == 1)))
    assert found["iou"]["baseline"] == pytest.approx(both / either)
    assert [row["section"] for row in found["per_section"] if row["iou_baseline"] is None] == [1, 5]
    page = next((tmp_path / "w").rglob("index.html")).read_text(encoding="utf-8")
    assert "truth unknown" in page
    kmeans = [row["iou_baseline"] for row in found["per_section"] if row["iou_baseline"] is not None]
    assert f"K-means: {min(kmeans):.3f} to {max(kmeans):.3f}." in page, "the chart shows the sections that have a score"

    out = tmp_path / "truth.tif"
    assert segem(monkeypatch, capsys, "export", "r", "tissue", "truth", out)[0] == 0
    assert np.array_equal(tifffile.imread(out), tifffile.imread(tmp_path / "labels.tif"))


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_part_of_the_split_without_labels_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    monkeypatch.setenv("SEGEM_WORKSPACE", str(tmp_path / "w"))
    manifest = painted(tmp_path, dict.fromkeys(range(*SPLIT[part]), slice(None)))
    code, _, err = segem(monkeypatch, capsys, "train", manifest, "--out", "mine", *TINY)
    assert code == 1
    assert f"error: tissue: nothing is known of the {part} sections" in err
    assert not (tmp_path / "w" / "models").exists() or not list((tmp_path / "w" / "models").iterdir())


def test_a_learning_curve_wants_labels_in_every_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGEM_WORKSPACE", str(tmp_path / "w"))
    words = ("learning-curve", painted(tmp_path, {1: slice(None)}), "--out", "mine", "--from", "scratch", *TINY)
    code, _, err = segem(monkeypatch, capsys, *words)
    assert code == 1
    assert "tissue, section 1: a learning curve counts labelled sections" in err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--membrane", "zero", "--ignore", 0), "the value to ignore, 0, is one that means membrane"),
        (("--membrane", 255, "--ignore", 255), "the value to ignore, 255, is one that means membrane"),
        (("--membrane", "nonzero", "--ignore", 0), "leaves nothing that is not membrane"),
    ],
)
def test_values_to_ignore_that_cannot_be_meant(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[object, ...],
    told: str,
) -> None:
    painted(tmp_path, {})
    words = ("ingest", tmp_path / "raw.tif", "--name", "v", "--voxel-nm", "50,4,4", "--workspace", tmp_path / "w")
    code, _, err = segem(monkeypatch, capsys, *words, "--labels", tmp_path / "labels.tif", *options)
    assert (code, len(err.splitlines())) == (1, 1)
    assert told in err
    code, _, err = segem(monkeypatch, capsys, *words, "--ignore", 7)
    assert (code, "--labels is missing; found --ignore. Fix: add --labels" in err) == (1, True)
