"""What does not fit the machine is refused before anything is read."""

from __future__ import annotations

import pytest

from segem.config import TrainConfig
from segem.errors import ConfigError
from segem.learn.models.registry import ZOO, recipe
from segem.stages.training.memory import require_training_memory


def test_more_crops_to_a_step_than_memory_holds_are_refused_before_the_training() -> None:
    with pytest.raises(ConfigError, match=r"^unet: so many crops to a step .* with --batch 1000000\. Fix: .* --batch"):
        require_training_memory(TrainConfig(steps=1, batch=10**6), "cpu")


def test_no_net_is_refused_with_the_batch_that_suits_it() -> None:
    for name in ZOO:
        require_training_memory(recipe(TrainConfig(model=name, steps=1)), "cpu")
