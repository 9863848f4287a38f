"""The paragraph for authors: what it must name, and what it must not claim."""

from __future__ import annotations

import numpy as np
import pytest

from segem.io.run import load_run
from segem.records.card import FittedOn
from segem.stages.reporting.evaluate import evaluate
from segem.stages.reporting.methods import find_card, write_methods
from segem.stages.reporting.words import TIMES
from tests.fabricate import MODEL, add_baseline, add_model, add_volume, guess, new_workspace, tissue

IMAGE, TRUTH = tissue((8, 96, 96))


@pytest.fixture
def workspace(tmp_path):
    return new_workspace(tmp_path / "w")


def write(workspace):
    report = evaluate("r", workspace)
    return report, write_methods(report, load_run(workspace, "r"), find_card(report, workspace))


def test_names_all_that_a_reader_needs_to_do_it_again(workspace):
    volume = add_volume(workspace, "fly", IMAGE, TRUTH, voxel_nm=(50, 20, 20))
    add_baseline(workspace, "r", "fly", (IMAGE < 120).astype(np.uint8))
    fitted = FittedOn(
        volume="fly", source_digest=volume.attributes["source_digest"], sections=(1, 2), section_digests=("",)
    )
    add_model(workspace, "r", "fly", guess(TRUTH), threshold=0.4, facts={"calibrated_on": (fitted,)})
    report, text = write(workspace)
    for part in (
        f"in 1 volume (8 sections, voxels of 50{TIMES}20{TIMES}20 nm (z, y, x))",
        f"the model unet-em (sha256 {MODEL.digest}",
        "a probability of at least 0.4 were taken for membrane",
        "membrane was found by K-means",
        "The model was calibrated on section 1 of fly.",
        "Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142",
        f"fly {report.volumes[0].source_digest[:16]}",
        f"results {report.digest[:16]}",
        "95 % intervals",
    ):
        assert part in text


def test_names_the_volumes_that_the_net_saw_resampled(workspace):
    for name, resampled in (("fly", (1, 1)), ("mouse", (3, 2)), ("rat", (3, 2))):
        add_volume(workspace, name, IMAGE)
        add_model(workspace, "r", name, guess(TRUTH), facts={"resampled": resampled})
    _, text = write(workspace)
    assert "resampled to a pixel size that it had learned at (3 pixels for every 2 of mouse, rat)" in text


def test_names_the_volumes_that_the_net_saw_at_several_sizes(workspace):
    add_volume(workspace, "fly", IMAGE)
    add_model(workspace, "r", "fly", guess(TRUTH), facts={"resampled": (3, 4), "sizes": ((3, 4), (9, 8), (3, 2))})
    _, text = write(workspace)
    assert "Sections of fly were shown to it at 3 pixel sizes, with 0.75, 1.12, 1.5 times their pixels" in text
    assert "that it had learned at" not in text


def test_says_nothing_where_no_volume_was_finished(workspace):
    add_volume(workspace, "blind", IMAGE)
    add_model(workspace, "r", "blind", guess(TRUTH), state="running")
    report, text = write(workspace)
    assert report.volumes[0].state == "failed"
    assert text == ""


def test_claims_no_scores_where_there_was_no_truth(workspace):
    add_volume(workspace, "blind", IMAGE)
    add_model(workspace, "r", "blind", guess(TRUTH))
    _, text = write(workspace)
    assert "No volume had ground truth, so nothing was measured." in text
    for word in ("IoU", "V_rand", "K-means", "Arganda"):
        assert word not in text
