"""segem, trained as the bundled model is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from judged import seen, trained
from numpy.typing import NDArray
from recipes import RECIPES

import segem.learn.train as loop
from segem.config import TrainConfig
from segem.io.volume import Volume
from segem.learn.artefact import geometry_of, load_net
from segem.learn.predict import predict_section
from segem.stages.training.train import train as train_model
from trainers.course import Course, Predict

RECIPE: dict[str, Any] = RECIPES["unet-em"]
ABOUT = "`unet` that sees three sections, by default otherwise; the average of its weights at the end"


def train(course: Course) -> Predict:
    """Do as `segem train` does; a training that was stopped is resumed from its last checkpoint."""
    name, budget = course.folder.name, course.budget
    if budget.processor_time:
        loop.time = SimpleNamespace(monotonic=budget.now)  # type: ignore[assignment, attr-defined]
    config = TrainConfig(model="unet", minutes=budget.minutes, seed=course.seed, **RECIPE)
    if trained(name, course.workspace) is None:
        train_model(course.manifest, name, config, course.workspace, device="cpu")
    artefact = trained(name, course.workspace)
    assert artefact is not None
    assert artefact.card.training is not None
    budget.steps, budget.spent = artefact.card.training.steps, artefact.card.training.minutes
    net, context = load_net(artefact), geometry_of(artefact.card).context_sections

    def predict(volume: Volume, z: int) -> NDArray[np.float32]:
        return predict_section(net, seen(volume, z, context))

    return predict
