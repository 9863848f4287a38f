"""What does not fit the machine is refused before anything is read."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segem.config import TrainConfig
from segem.errors import ConfigError
from segem.geometry import Range
from segem.io.models import list_models
from segem.learn.artefact import load_artefact
from segem.learn.models.registry import ZOO, recipe
from segem.stages.training import memory
from segem.stages.training.labelled import LabelledVolume
from segem.stages.training.memory import require_section_memory, require_training_memory
from segem.stages.training.score import score_volume
from tests.fabricate import add_volume, new_workspace, tissue


def test_more_crops_to_a_step_than_memory_holds_are_refused_before_the_training() -> None:
    with pytest.raises(ConfigError, match=r"^unet: so many crops to a step .* with --batch 1000000\. Fix: .* --batch"):
        require_training_memory(TrainConfig(steps=1, batch=10**6), "cpu")


def test_a_teacher_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(steps=1, batch=8)
    (teacher,) = (load_artefact(folder).card for name, folder in list_models() if name == "unet-em")
    # 8 crops of 256 pixels take 0.28 GB in the net itself, and 0.28 GB more in its teacher.
    monkeypatch.setattr(memory, "half_of_the_machine", lambda: 250_000_000)
    require_training_memory(config, "cpu")
    with pytest.raises(ConfigError, match="so many crops to a step"):
        require_training_memory(config, "cpu", teacher)


def test_validation_sections_count_too_and_test_sections_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, truth = tissue((24, 64, 64))
    volume = add_volume(new_workspace(tmp_path), "v", image, truth)
    one = LabelledVolume(volume, (0, 1), (1, 3), (3, 24))
    needed = 64 * 64 * (9 + 2 * 14)
    monkeypatch.setattr(memory, "half_of_the_machine", lambda: needed / 2)
    require_section_memory([one])
    with pytest.raises(ConfigError, match=r"^v: the training and validation sections do not fit into memory"):
        require_section_memory([replace(one, validation=(1, 4))])


def test_one_section_is_in_memory_at_a_time_when_many_are_scored(tmp_path: Path) -> None:
    image, truth = tissue((24, 128, 128))
    volume = add_volume(new_workspace(tmp_path), "v", image, truth)

    def measure_peak(sections: Range) -> int:
        tracemalloc.start()
        try:
            score_volume(lambda x: np.float32(1) / (1 + np.exp(x[0])), 0.5, volume, sections, 1)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    measure_peak((0, 2))  # imports what it needs
    # Ten sections more would be 5 bytes for each of their pixels.
    assert measure_peak((0, 24)) - measure_peak((0, 14)) < 2 * 5 * 128 * 128


def test_no_net_is_refused_with_the_batch_that_suits_it() -> None:
    for name in ZOO:
        require_training_memory(recipe(TrainConfig(model=name, steps=1)), "cpu")
