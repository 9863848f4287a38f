"""What does not fit the machine is refused before anything is read."""

from __future__ import annotations

import pytest

from segem.config import TrainConfig
from segem.errors import ConfigError
from segem.io.models import list_models
from segem.learn.artefact import load_artefact
from segem.learn.models.registry import ZOO, recipe
from segem.stages.training import memory
from segem.stages.training.memory import require_training_memory


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


def test_no_net_is_refused_with_the_batch_that_suits_it() -> None:
    for name in ZOO:
        require_training_memory(recipe(TrainConfig(model=name, steps=1)), "cpu")
