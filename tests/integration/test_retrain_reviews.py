"""What people have reviewed is learned, nothing of it judges that was learned, and every label is known by its log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from scipy import ndimage

from segem.config import GateConfig, SynthConfig, TrainConfig, load_manifest
from segem.config.retrain import RetrainConfig, with_rehearsal
from segem.errors import ConfigError
from segem.io.review_standing import count_decided
from segem.io.reviewed import open_log
from segem.io.reviewed_labels import ReviewedVolume, open_reviewed
from segem.io.versions import read_promotion
from segem.io.workspace import Workspace
from segem.kernels.synth import synthesize
from segem.kernels.truth import UNKNOWN
from segem.learn.artefact import load_artefact, model_record
from segem.records.card import TrainedOn
from segem.records.review import SHEET, Decision, Draft, Place
from segem.stages.reporting.gain import find_gain, tabulate_gain
from segem.stages.training.again import plan_again
from segem.stages.training.gate.judge import Contender, JudgedSections, choose_judged_sections, judge_volume
from segem.stages.training.gate.predictions import Prediction, hide_unsure, read_truth
from segem.stages.training.job import compute_training_digest, open_training
from segem.stages.training.labelled import LabelledVolume, open_labelled_volumes, read_labelled_sections
from segem.stages.training.retrain import judge_candidate, open_retraining, prepare_retraining, train_candidate
from segem.stages.training.reviewed import Reviews, assign_reviewed
from tests import fabricate
from tests.fabricate import add_model, add_volume, guess, new_workspace

RUN, NAME = "monday", "cortex"
SECTIONS, SIZE, REGION = 8, 128, 64
GATE = GateConfig(block_px=32, resamples=1000, fewest_blocks=4)
TINY = TrainConfig(architecture={"features": 2, "depth": 2}, steps=2, batch=1, crop_px=64)


@cache
def tissue() -> Any:
    return synthesize(SynthConfig(shape=(SECTIONS, SIZE, SIZE), seed=1))


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    """Return a workspace with a run of a volume without labels, whose mask is a guess at the truth."""
    workspace, em = new_workspace(tmp_path / "w"), tissue()
    add_volume(workspace, NAME, em.image)
    add_model(workspace, RUN, NAME, guess(em.truth))
    return workspace


def place(z: int, y: int = 0, x: int = 0) -> Place:
    return Place(volume=NAME, z=z, y=y, x=x, height=REGION, width=REGION)


def decide(space: Workspace, where: Place, decision: Decision = "fix", author: str = "Ana") -> None:
    """Make a region what the truth says, and decide it, in a minute."""
    fabricate.decide(space, RUN, where, tissue().truth, decision, author, 60)


def assign(
    space: Workspace, labelled: Sequence[LabelledVolume] = (), known: tuple[TrainedOn, ...] = ()
) -> tuple[LabelledVolume, ...]:
    return assign_reviewed(Reviews(tuple(open_reviewed(space, RUN)), known, GATE), labelled)


def label(space: Workspace, folder: Path, split: dict[str, Any]) -> tuple[LabelledVolume, ...]:
    """Ingest the same tissue, labelled, under another name."""
    em = tissue()
    tifffile.imwrite(folder / "em.tif", em.image, photometric="minisblack")
    tifffile.imwrite(folder / "truth.tif", em.truth * 255, photometric="minisblack")
    entry = {"name": "other", "source": "em.tif", "voxel_nm": [50, 4, 4], "split": split}
    entry["labels"] = {"source": "truth.tif", "membrane": "nonzero"}
    (folder / "m.yaml").write_text(yaml.safe_dump({"name": "m", "volumes": [entry]}), encoding="utf-8")
    return open_labelled_volumes(load_manifest(folder / "m.yaml"), space)


def test_labels_are_the_corrected_mask_of_regions_that_are_right_and_unknown_elsewhere(space: Workspace) -> None:
    decide(space, place(0), "accept")
    decide(space, place(0, REGION, REGION), "reject")
    decide(space, place(1), "unsure")
    decide(space, place(2, 10, 20))
    (volume,) = open_reviewed(space, RUN)
    expected = np.full((SECTIONS, SIZE, SIZE), UNKNOWN, np.uint8)
    for where in (place(0), place(2, 10, 20)):
        at = (where.z, slice(where.y, where.y + REGION), slice(where.x, where.x + REGION))
        expected[at] = tissue().truth[at]
    for z in range(SECTIONS):
        assert np.array_equal(volume.truth(z), expected[z])
    assert volume.reviewed_sections() == [0, 2]
    # Taken when it was opened: what is decided afterwards is for the next training.
    decide(space, place(0), "reject")
    assert np.array_equal(volume.truth(0), expected[0])
    assert [one.reviewed_sections() for one in open_reviewed(space, RUN)] == [[2]]


def test_what_is_read_to_train_on_is_the_tissue_around_the_regions(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segem.stages.training.labelled.AROUND_PX", 16)
    decide(space, place(2, 10, 20))
    (volume,) = open_reviewed(space, RUN)
    (section,) = read_labelled_sections(volume, (0, SECTIONS), 3)
    assert section.image.shape == (3, 10 + REGION + 16, 16 + REGION + 16)
    assert np.array_equal(section.truth, volume.truth(2)[:90, 4:100])


def test_a_model_is_not_judged_by_where_exactly_the_old_one_ended_a_membrane(space: Workspace) -> None:
    decide(space, place(0))
    (volume,) = open_reviewed(space, RUN)
    whole = read_truth(volume, 0)
    judged = hide_unsure(whole, volume)
    border = (whole[:, 1:] != whole[:, :-1]) & (whole[:, 1:] != UNKNOWN) & (whole[:, :-1] != UNKNOWN)
    assert (judged[:, 1:][border] == UNKNOWN).all()
    assert (judged[:, :-1][border] == UNKNOWN).all()
    assert np.array_equal(judged[judged != UNKNOWN], whole[judged != UNKNOWN])
    assert {0, 1} <= set(np.unique(judged))


def test_cells_that_run_together_in_reviewed_regions_are_seen(space: Workspace) -> None:
    for z in (2, 5):
        decide(space, place(z).model_copy(update={"height": SIZE, "width": SIZE}))
    (volume,) = open_reviewed(space, RUN)

    def find(masks: np.ndarray) -> Contender:
        return Contender(None, lambda _, sections: (Prediction(masks[z] * np.uint8(255), masks[z]) for z in sections))

    truth, leaking = tissue().truth, tissue().truth.copy()
    cross = ndimage.generate_binary_structure(2, 1)[np.newaxis]
    thick = ndimage.binary_dilation(truth, cross).astype(np.uint8)
    leaking[:, ::16], leaking[:, :, ::16] = 0, 0
    judged = judge_volume(find(leaking), find(truth), JudgedSections(volume, range(2, 6)), GATE)
    assert judged.v_rand is not None
    assert judged.v_rand.incumbent == 1
    assert judged.v_rand.difference < -0.1
    assert judged.harm
    # One pixel more on each side is no difference that people have decided on.
    judged = judge_volume(find(thick), find(truth), JudgedSections(volume, range(2, 6)), GATE)
    assert judged.iou.candidate > 0.99


def test_the_last_sections_judge_and_those_before_them_choose_the_threshold(space: Workspace) -> None:
    for z in (0, 1, 3, 4, 6):
        decide(space, place(z))
    (one,) = assign(space)
    assert (one.train, one.validation, one.test) == ((0, 2), (3, 4), (4, 7))
    (judged,) = choose_judged_sections([one], GATE)
    assert list(judged.labelled) == [4, 6]


def test_each_section_is_looked_at_once_to_decide_what_it_is_for(space: Workspace) -> None:
    looked: list[int] = []

    class Noting(ReviewedVolume):
        def truth(self, z: int) -> np.ndarray:
            looked.append(z)
            return super().truth(z)

    for z in range(SECTIONS):
        decide(space, place(z))
    (volume,) = open_reviewed(space, RUN)
    (one,) = assign_reviewed(Reviews((Noting(volume.path, volume.origin, volume.regions),), (), GATE), ())
    assert (one.train, one.validation, one.test) == ((0, 3), (3, 5), (5, 8))
    assert sorted(looked) == [5, 6, 7]


def test_sections_that_a_model_has_seen_do_not_judge_it(space: Workspace) -> None:
    for z in (0, 1, 3, 4, 6):
        decide(space, place(z))
    (volume,) = open_reviewed(space, RUN)
    digest = volume.attributes["source_digest"]

    def learned(stop: int, first: int = 0) -> tuple[TrainedOn, ...]:
        return (
            TrainedOn(
                volume="old",
                source_digest=digest,
                train=(first, stop),
                validation=(0, 0),
                train_digests=(),
                validation_digests=(),
                share=1,
            ),
        )

    (one,) = assign(space, known=learned(4))
    assert (one.train, one.validation, one.test) == ((0, 4), (4, 5), (6, 7))
    with pytest.raises(ConfigError, match="too few regions to train on some"):
        assign(space, known=learned(7))
    # A model may have seen the last sections: those before them judge.
    (one,) = assign(space, known=learned(8, 7))
    assert (one.train, one.validation, one.test) == ((0, 2), (3, 4), (4, 7))
    one, other = assign(space, known=learned(8, 5))
    assert (one.train, one.validation, one.test) == ((0, 1), (1, 2), (3, 5))
    assert (other.train, other.validation, other.test) == ((6, 7), (0, 0), None)
    assert (one.name, other.name) == ("cortex of monday, sections 0 to 4", "cortex of monday, section 6")
    assert one.weight + other.weight == 1


def test_one_section_is_refused_in_words_before_anything_is_trained(space: Workspace) -> None:
    for x in (0, REGION):
        decide(space, place(3, 0, x))
    with pytest.raises(ConfigError, match=r"too few regions.*regions: 2, sections: 1.*review regions of more sections"):
        assign(space)


def test_a_run_without_decisions_is_refused(space: Workspace) -> None:
    with pytest.raises(ConfigError, match="nobody has reviewed this run"):
        open_reviewed(space, RUN)
    decide(space, place(0), "reject")
    with pytest.raises(ConfigError, match="no region of this run was accepted or fixed"):
        open_reviewed(space, RUN)
    with pytest.raises(ConfigError, match="what is the model to be trained on"):
        open_retraining(None, RetrainConfig(out="mine", train=TINY), space.root)


def test_regions_in_sections_that_a_manifest_labels_are_left_to_it(
    space: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # By the voxels of each section: the stack has another name.
    labelled = label(space, tmp_path, {"train": [0, 1], "validation": [3, 4], "test": [5, 6]})
    for z in range(SECTIONS):
        decide(space, place(z))
    found = assign(space, labelled)
    # A net sees neighbouring sections, so no stretch reaches across one that validates or judges.
    assert [one.train for one in found] == [(1, 3), (4, 5), (6, 8)]
    assert all(one.test is None for one in found)
    assert len({one.name for one in found}) == 3
    assert sum(one.weight for one in found) == pytest.approx(1)
    for one in found:
        assert isinstance(one.volume, ReviewedVolume)
        assert set(one.volume.reviewed_sections()) <= set(range(*one.train))
    assert "regions of sections 0 and 3 and 5 are left out: a manifest labels them" in capsys.readouterr().err


def test_what_is_entered_apart_is_work_and_no_label(space: Workspace) -> None:
    decide(space, place(0))
    apart = place(1).model_copy(update={"volume": f"{NAME}{SHEET}second{SHEET}Bo"})
    detail: dict[str, str | int] = {"decision": "fix", "note": ""}
    entry = Draft(id="ab" * 8, kind="decision", place=apart, active_seconds=7, detail=detail)
    with open_log(space, RUN) as log:
        log.append(entry, "Bo", log.head().entries, lambda _: np.zeros((REGION, REGION), bool))
        assert count_decided(log) == 1
    (volume,) = open_reviewed(space, RUN)
    assert volume.reviewed_sections() == [0]
    assert (volume.origin.regions, volume.origin.people, volume.origin.active_seconds) == (1, ("Ana", "Bo"), 67)


def test_old_volumes_get_their_share_of_the_crops_beside_reviews_alone(space: Workspace, tmp_path: Path) -> None:
    label(space, tmp_path, {"train": [0, 1], "validation": [3, 4], "test": [5, 6]})
    old = load_manifest(tmp_path / "m.yaml")
    (alone,) = with_rehearsal(None, old, 0.25, reviewed=1).volumes
    assert alone.split is not None
    assert (alone.split.weight, alone.split.rehearsed) == (pytest.approx(1 / 3), True)


def test_labels_are_known_by_the_head_of_the_log(space: Workspace) -> None:
    for z in (0, 1, 3, 4, 6):
        decide(space, place(z))

    def identify() -> str:
        reviews = Reviews(tuple(open_reviewed(space, RUN)), (), GATE)
        return compute_training_digest(open_training(None, TINY, space, reviews=reviews), [])

    before = identify()
    assert identify() == before
    with open_log(space, RUN) as log:
        log.note("invite", {"name": "Bo", "token_sha256": "ab"}, "Ana")
    assert identify() != before


def test_the_card_says_who_has_reviewed_and_the_report_what_it_has_gained(space: Workspace) -> None:
    for z in (0, 1, 3, 4, 6):
        decide(space, place(z), author="Bo" if z else "Ana")
    # The model of this run was made up; without one the training is from scratch.
    record = space.run(RUN) / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"model": None}))
    made = []
    for seed in range(2):
        learned = TINY.model_copy(update={"seed": seed})
        config = RetrainConfig(out="mine", train=learned, gate=GATE, from_reviews=RUN, device="cpu", force=True)
        ready = prepare_retraining(open_retraining(None, config, space.root))
        decided = judge_candidate(ready, train_candidate(ready).path)
        made.append(load_artefact(space.models / "mine" / decided.version))
    assert decided.manifest == f"reviews of {RUN}"
    (reviewed,) = made[1].card.reviewed
    with open_log(space, RUN) as log:
        assert reviewed.head == log.head()
    assert (reviewed.run, reviewed.volume, reviewed.regions, reviewed.people) == (RUN, NAME, 5, ("Ana", "Bo"))
    assert reviewed.active_seconds == 300
    (used,) = made[1].card.trained_on
    assert (used.train, used.validation) == ((0, 2), (3, 4))
    assert len({*used.train_digests, *used.validation_digests} - {""}) == 3
    promotion = read_promotion(made[1].path)
    assert promotion is not None
    assert promotion.judged[0].sections == (4, 7)
    assert promotion.judged[0].iou_interval.blocks == 4, "3 sections of 50 nm in cubes of 128 nm, 2 x 2 in the region"

    assert find_gain(model_record(made[0]), space) is None, "there was no model before it"
    gain = find_gain(model_record(made[1]), space)
    assert gain is not None
    assert gain.minutes == 5
    rows = tabulate_gain(gain).rows
    difference = promotion.judged[0].iou.difference
    assert rows[0][:2] == (f"{NAME} of {RUN}", "IoU")
    assert rows[0][-1] == f"{difference / 5:+.4f}"

    again = plan_again(decided, ready.job.reviewed, space)
    assert again is not None
    assert again.run == f"{RUN}-{decided.version}"
    assert again.volumes[NAME].model == "mine"
    assert plan_again(decided.model_copy(update={"promoted": False}), ready.job.reviewed, space) is None
