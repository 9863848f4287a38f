"""A candidate that breaks cells apart or runs them together is kept aside, however good its pixels are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from segem.config import GateConfig
from segem.io.volume import Volume
from segem.stages.training.gate.judge import Contender, JudgedSections, judge_volume
from segem.stages.training.gate.predictions import Mask, Prediction
from tests.fabricate import add_volume, new_workspace, tissue

GATE = GateConfig(block_px=64, resamples=1000)
SECTIONS = range(2)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    image, truth = tissue((2, 256, 256), seed=4)
    return add_volume(new_workspace(tmp_path_factory.mktemp("w")), "em", image, truth)


def truth_of(volume: Volume) -> Mask:
    return np.asarray(volume.label("truth")[:])


def predicting(masks: Mask) -> Contender:
    """Return a model that finds given masks, with certainty."""

    def predict(_: Volume, sections: Sequence[int]) -> Iterator[Prediction]:
        yield from (Prediction(masks[z] * np.uint8(255), masks[z]) for z in sections)

    return Contender(None, predict)


def thicken(truth: Mask) -> Mask:
    """Return membranes a pixel wider on each side: no cell is lost, and many pixels are wrong."""
    return np.stack([ndimage.binary_dilation(section) for section in truth]).astype(np.uint8)


def leak(truth: Mask, every: int) -> Mask:
    """Return membranes with a hole in each place of a lattice: hardly a pixel is wrong, and cells run together."""
    holes = np.zeros(truth.shape[1:], bool)
    holes[every // 2 :: every, every // 2 :: every] = True
    return np.where(ndimage.binary_dilation(holes, iterations=3), 0, truth).astype(np.uint8)


def test_better_pixels_do_not_make_up_for_cells_that_run_together(volume: Volume) -> None:
    truth = truth_of(volume)
    candidate, incumbent = predicting(leak(truth, 24)), predicting(thicken(truth))
    judged = judge_volume(candidate, incumbent, JudgedSections(volume, SECTIONS), GATE)
    assert judged.iou_interval.low > 0, "by IoU alone it would be promoted"
    assert judged.v_rand is not None
    assert judged.v_rand.difference < -GATE.harm_v_rand
    assert judged.harm.startswith("V_rand fell by more than 0.003: ")


def test_what_surely_falls_within_blocks_is_harm_however_large_a_loss_is_allowed(volume: Volume) -> None:
    truth = truth_of(volume)
    candidate, incumbent = predicting(leak(truth, 24)), predicting(thicken(truth))
    lenient = GATE.model_copy(update={"harm_v_rand": 0.99})
    judged = judge_volume(candidate, incumbent, JudgedSections(volume, SECTIONS), lenient)
    assert judged.v_rand_interval is not None
    assert judged.v_rand_interval.high < 0
    assert judged.harm.startswith("V_rand surely fell: ")


def test_better_pixels_with_the_same_cells_pass(volume: Volume) -> None:
    truth = truth_of(volume)
    judged = judge_volume(predicting(truth), predicting(thicken(truth)), JudgedSections(volume, SECTIONS), GATE)
    assert judged.harm == ""
    assert judged.v_rand is not None
    assert judged.v_rand.candidate == 1


def test_too_few_cells_for_an_interval_are_said_and_keep_a_candidate_aside(tmp_path: Path) -> None:
    image, truth = tissue((2, 256, 256), seed=4)
    truth[:] = 0
    truth[:, :, 100:120] = 1
    few = add_volume(new_workspace(tmp_path / "few"), "em", image, truth)
    judged = judge_volume(predicting(truth), predicting(thicken(truth)), JudgedSections(few, SECTIONS), GATE)
    assert judged.v_rand_interval is None
    assert "V_rand cannot be compared: 4 cells, where 12 or more cells" in judged.harm
