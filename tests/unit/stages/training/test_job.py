"""What decides a training is part of its digest, so that no other training goes on from its checkpoints."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from segem.config import TrainConfig
from segem.learn.sections import LabelledSection
from segem.stages.training import job as module
from segem.stages.training.job import TrainingJob, compute_training_digest

JOB = TrainingJob(TrainConfig(steps=10), None, (), {}, device="cpu")


def section(**changed: Any) -> LabelledSection:
    grey = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    return replace(LabelledSection("a", grey, np.zeros((4, 4), np.uint8)), **changed)


def test_the_same_training_has_the_same_digest_however_often_it_is_saved() -> None:
    first = compute_training_digest(JOB, [section()])
    assert compute_training_digest(JOB, [section()]) == first
    often = replace(JOB, config=JOB.config.model_copy(update={"checkpoint_steps": 3, "look_seconds": 1.0}))
    assert compute_training_digest(often, [section()]) == first


def test_settings_and_pixels_are_part_of_it() -> None:
    first = compute_training_digest(JOB, [section()])
    other = replace(JOB, config=JOB.config.model_copy(update={"seed": 1}))
    assert compute_training_digest(other, [section()]) != first
    assert compute_training_digest(JOB, [section(truth=np.ones((4, 4), np.uint8))]) != first


@pytest.mark.parametrize(
    ("name", "other"),
    [("code_digest", lambda _: "another trainer"), ("training_runtime", lambda _: "torch 2.10 on cuda")],
)
def test_the_code_that_trains_and_the_device_are_part_of_it(
    monkeypatch: pytest.MonkeyPatch, name: str, other: Any
) -> None:
    first = compute_training_digest(JOB, [section()])
    monkeypatch.setattr(module, name, other)
    assert compute_training_digest(JOB, [section()]) != first
