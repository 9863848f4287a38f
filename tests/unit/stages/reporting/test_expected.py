"""A volume without truth is estimated or not, and its errors are mapped, from what lies on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segem.errors import WorkspaceError
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.truth import UNKNOWN
from segem.records.expected import Abstains, Expected
from segem.records.reference import Reference
from segem.records.scores import VolumeScores
from segem.stages.reporting.error_maps import read_error_map
from segem.stages.reporting.evaluate import evaluate
from segem.stages.reporting.expected import AVERAGED, NO_REFERENCE
from segem.stages.reporting.write import report
from segem.stages.training.reference import FitOn, fit_reference
from tests.fabricate import add_model, add_volume, guess, new_workspace, tissue

RUN = "r1"
SHAPE = (4, 192, 300)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A labelled volume, and others of that tissue, blurred, inverted and of larger voxels, all segmented alike."""
    workspace = new_workspace(tmp_path_factory.mktemp("w"))
    image, truth = tissue(SHAPE, seed=3)
    labelled = add_volume(workspace, "labelled", image, truth)
    reference = fit_on(labelled, truth)
    image, truth = tissue(SHAPE, seed=4)
    blurred = np.asarray(image.astype(float) + np.roll(image, 1, 1) + np.roll(image, 2, 2) + np.roll(image, 3, 1)) / 4
    for name, seen in {"alike": image, "blurred": blurred.astype(np.uint8), "inverted": 255 - image}.items():
        add_volume(workspace, name, seen, truth if name == "alike" else None)
        add_model(workspace, RUN, name, guess(truth), facts={"reference": reference})
    add_volume(workspace, "unknown", image)
    add_model(workspace, RUN, "unknown", guess(truth))
    return workspace


def fit_on(volume: Volume, truth: np.ndarray) -> Reference:
    """Fit on a model that guesses at the truth of one section after the other."""
    guesses = iter(guess(truth))
    reference = fit_reference(lambda _: next(guesses), 0.5, [FitOn(volume, (0, len(truth)))], 1)
    assert reference is not None
    return reference


@pytest.fixture(scope="module")
def scores(workspace: Workspace) -> dict[str, VolumeScores]:
    return {volume.name: volume for volume in evaluate(RUN, workspace).volumes}


def test_the_estimate_holds_what_is_measured(scores: dict[str, VolumeScores]) -> None:
    found = scores["alike"]
    assert isinstance(found.expected, Expected)
    assert found.expected.like == "labelled"
    assert found.scores.model is not None
    assert found.expected.iou.low < found.scores.model.iou < found.expected.iou.high
    assert found.expected.iou.value == pytest.approx(found.scores.model.iou, abs=0.03)
    assert found.expected.v_rand is not None
    assert found.scores.model.v_rand is not None
    assert found.expected.v_rand.value == pytest.approx(found.scores.model.v_rand, abs=0.01)


@pytest.mark.parametrize("name", ["blurred", "inverted"])
def test_tissue_unlike_that_of_the_reference_is_not_judged(scores: dict[str, VolumeScores], name: str) -> None:
    found = scores[name].expected
    assert isinstance(found, Abstains)
    assert "too unlike" in found.abstains
    assert "where the estimate was fitted" in found.reasons[0]
    assert not scores[name].measured


def test_a_model_without_reference_abstains(scores: dict[str, VolumeScores]) -> None:
    assert scores["unknown"].expected == Abstains(abstains=NO_REFERENCE)
    assert "segem models calibrate" in NO_REFERENCE


def test_a_strip_along_z_has_measured_errors_only_where_there_is_truth(scores: dict[str, VolumeScores]) -> None:
    strip = scores["alike"].errors
    assert [one.section for one in strip] == [0, 1, 2, 3]
    for one in strip:
        assert one.expected is not None
        assert one.measured is not None
        assert one.worst is not None
        assert one.worst >= one.expected
        assert one.measured == pytest.approx(one.expected, abs=0.05)
    assert {one.measured for one in scores["blurred"].errors} == {None}


def test_the_report_has_the_map_of_every_segmented_volume(workspace: Workspace) -> None:
    written = report(RUN, workspace)
    values = {one["name"]: one for one in json.loads(written.json.read_text())["volumes"]}
    assert values["alike"]["expected_iou"].keys() == {"value", "low", "high"}
    assert values["inverted"]["expected_iou"]["abstains"]
    home = written.json.parent
    known, blind = (read_error_map(home, name) for name in ("alike", "inverted"))
    assert (known.y_px, known.x_px) == ((0, 192), (0, 300))
    assert len(known.rank()) == 4
    assert known.rank()[0].measured is not None
    assert (known.abstains, blind.abstains) == (None, values["inverted"]["expected_iou"]["abstains"])
    assert blind.measured == ()
    assert any("where the estimate was fitted" in reason for reason in blind.sections[0].reasons)
    (home / "errors" / "alike.json").write_text("{}")
    with pytest.raises(WorkspaceError, match="segem report r1"):
        read_error_map(home, "alike")


def test_where_no_estimate_is_given_the_page_says_what_helps(workspace: Workspace) -> None:
    page = report(RUN, workspace).index.read_text()
    helped = {name: f"segem cells {name} --of {RUN}" in page for name in ("alike", "inverted", "unknown")}
    assert helped == {"alike": False, "inverted": True, "unknown": True}
    assert f"Corrections made in <code>segem review {RUN}</code> tell how good the mask is." in page


def test_a_mean_over_pixel_sizes_has_no_estimate(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path / "w")
    image, truth = tissue(SHAPE, seed=3)
    reference = fit_on(add_volume(workspace, "labelled", image, truth), truth)
    facts = {"reference": reference, "sizes": ((1, 1), (3, 2), (2, 1))}
    add_model(workspace, RUN, "labelled", guess(truth), facts=facts)
    (found,) = evaluate(RUN, workspace).volumes
    assert found.expected == Abstains(abstains=AVERAGED)


def test_an_empty_mask_is_not_judged(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path / "w")
    image, truth = tissue((2, 64, 64))
    reference = fit_on(add_volume(workspace, "fly", image, truth), truth)
    add_model(workspace, RUN, "fly", np.zeros_like(truth), facts={"reference": reference})
    (found,) = evaluate(RUN, workspace).volumes
    assert found.expected == Abstains(abstains="the model found no membrane, nor any doubt of it")
    assert {one.expected for one in found.errors} == {0.0}


def test_the_middle_of_sections_is_enough(tmp_path: Path) -> None:
    """Of many sections some are looked at closely; errors are mapped in all."""
    workspace = new_workspace(tmp_path / "w")
    image, truth = tissue((20, 64, 64))
    reference = fit_on(add_volume(workspace, "fly", image, truth), truth)
    add_model(workspace, RUN, "fly", guess(truth), facts={"reference": reference})
    (found,) = evaluate(RUN, workspace).volumes
    assert isinstance(found.expected, Expected)
    assert len(found.errors) == 20


def test_damaged_images_take_the_estimate_and_no_score(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path / "w")
    image, truth = tissue((2, 64, 64))
    volume = add_volume(workspace, "fly", image, truth)
    add_model(workspace, RUN, "fly", guess(truth), facts={"reference": fit_on(volume, truth)})
    shard = next(path for path in (workspace.volume("fly") / "0" / "c").rglob("*") if path.is_file())
    data = bytearray(shard.read_bytes())
    data[60] ^= 1
    shard.write_bytes(data)
    (found,) = evaluate(RUN, workspace).volumes
    assert isinstance(found.expected, Abstains)
    assert found.expected.abstains.startswith("the images cannot be read: ")
    assert found.scores.model is not None
    assert all(one.measured is not None for one in found.errors)


def test_the_estimate_of_cells_is_of_the_sections_and_of_the_tissue_that_were_labelled(tmp_path: Path) -> None:
    """One painted section in a range of four shows no spread; of painted patches no more is merged than they hold."""
    workspace = new_workspace(tmp_path)
    image, truth = tissue(SHAPE, seed=3)
    one, patch = truth.copy(), truth.copy()
    one[1:], patch[:, 128:] = UNKNOWN, UNKNOWN
    found = {}
    for name, labels in {"one": one, "patch": patch}.items():
        (found[name],) = fit_on(add_volume(workspace, name, image, labels), truth).volumes
    assert (found["one"].sections, found["one"].cell_sections, found["one"].section_px) == ((0, 4), 1, 192 * 300)
    assert (found["patch"].cell_sections, found["patch"].section_px) == (4, 128 * 300)
    image, truth = tissue(SHAPE, seed=4)
    add_volume(workspace, "alike", image)
    add_model(workspace, RUN, "alike", guess(truth), facts={"reference": Reference(pieces=1, volumes=(found["one"],))})
    (scored,) = evaluate(RUN, workspace).volumes
    assert isinstance(scored.expected, Expected)
    assert scored.expected.v_rand is None
