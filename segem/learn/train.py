"""Training: one loop over batches, which can be interrupted and resumed without changing its result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segem.config import TrainConfig
from segem.learn.allocator import keep_activations
from segem.learn.batches import draw_batches, prefetch
from segem.learn.calibrated import calibrated
from segem.learn.checkpoint import Checkpoints, Reached
from segem.learn.checks import check_sections, warn_of_small_sections
from segem.learn.interrupt import defer_interrupt
from segem.learn.learner import Learner
from segem.learn.models.registry import geometry, patch_px
from segem.learn.operating_point import calibrate, choose_merge_below, choose_threshold
from segem.learn.pieces import in_pieces
from segem.learn.predict import predict_section
from segem.learn.sections import LabelledSection
from segem.learn.watch import Snapshot, Watch
from segem.records.card import Calibration

SMOOTHING = 0.02
"""Weight of one step in the running loss, which makes it an average over about 50 steps."""


@dataclass(frozen=True)
class Progress:
    """What a training run reports after each step.

    Parameters
    ----------
    fraction : float
        Share of the budget that is used up, 0 to 1.
    loss : float
        Running average over the last steps.
    """

    fraction: float
    loss: float
    validation_iou: float | None = None
    """At the last look; None before the first."""


@dataclass(frozen=True)
class Fitted:
    """What training yields."""

    net: nn.Module
    """Not calibrated."""
    calibration: Calibration
    threshold: float
    merge_below: float | None
    """For the cells of its probabilities."""
    validation_iou: float
    steps: int
    minutes: float
    """Spent on training in all, including before any interruption."""
    final_loss: float
    history: tuple[Snapshot, ...]
    """Each look at the validation sections, the last one at the end."""

    @property
    def calibrated_net(self) -> nn.Module:
        """The net with calibrated logits; the threshold applies to its probabilities."""
        return calibrated(self.net, self.calibration)


def fit(
    train: Sequence[LabelledSection],
    validation: Sequence[LabelledSection],
    config: TrainConfig,
    *,
    base: nn.Module | None = None,
    device: torch.device | str = "cpu",
    on_step: Callable[[Progress], None] | None = None,
    on_look: Callable[[NDArray[np.float32], Sequence[Snapshot]], None] | None = None,
    kept: Checkpoints | None = None,
) -> Fitted:
    """Train a net, and calibrate it and choose its threshold on the validation sections.

    Parameters
    ----------
    train, validation : sequences of LabelledSection
        Disjoint sections.
    config : TrainConfig
        Architecture, budget, crops, optimiser and seed.
    base : Module, optional
        A net of that architecture to fine-tune; when absent a fresh one, filled with the ``pretrained`` weights of the
        configuration if it names any.
    device : device
        Where to compute.
    on_step : callable, optional
        Called after every step, for a progress bar.
    on_look : callable, optional
        Called at each look with the probability on the first validation section and the curve so far, to show them.
    kept : Checkpoints, optional
        Where to resume from, and where to save what has been learned so far.

    Returns
    -------
    Fitted
        The net with averaged weights, in evaluation mode, and its threshold.

    Raises
    ------
    InputError
        When nothing can be learned: no sections, tiny ones, a single grey level or truth of one class only.
    ModelError
        When the loss is no longer finite, or pretrained weights cannot be obtained or do not fit.
    WorkspaceError
        When the disk refuses a checkpoint.
    KeyboardInterrupt
        At Ctrl-C, after the current step, with a checkpoint saved.
    """
    # First of all: heaps that threads already have keep their settings.
    keep_activations()
    check_sections(train, "train")
    check_sections(validation, "validation")
    warn_of_small_sections(train, patch_px(config.model, config.architecture) or config.crop_px)
    learner = Learner(config, base, any(section.rehearsed for section in train), device)
    # It wraps the averaged net and copies nothing, so every look sees the weights of that moment.
    judged = in_pieces(learner.average, geometry(config.model, config.architecture))
    reached = kept.restore(learner) if kept is not None else Reached()
    watch = Watch(config.look_seconds)
    # Time used before an interruption counts: the budget belongs to the training, not to this process.
    started = time.monotonic() - reached.seconds

    # Each batch follows from the seed and its number alone, so a resumed training draws exactly those it still needs.
    with prefetch(draw_batches(train, config, reached.step)) as batches, defer_interrupt() as interrupted:
        while (used := measure_budget_used(config, reached)) < 1:
            loss = learner.step(next(batches), reached.step + 1, used)
            reached = reached.after(loss, time.monotonic() - started, SMOOTHING)
            if watch.due():
                # A look draws no random number and changes no weight, so the frequency of looks changes no result.
                with watch.measure(reached.seconds):
                    reached = reached.seen(choose_threshold(judged, validation, device)[1])
                    if on_look is not None:
                        on_look(predict_section(judged, validation[0].image, device), reached.history)
            # Asked once: a Ctrl-C that comes between saving and this exit must not skip the saving.
            stop = interrupted()
            if kept is not None:
                kept.keep(reached, learner, at_once=stop)
            if stop:
                raise KeyboardInterrupt
            if on_step is not None:
                seen = reached.history[-1].validation_iou if reached.history else None
                on_step(Progress(min(measure_budget_used(config, reached), 1.0), reached.loss, seen))

    # Border weights and Dice bias the logits, so probabilities are calibrated before a threshold is chosen. Both use
    # validation sections: on training sections the net is too sure of itself, and test sections must stay unseen.
    calibration = calibrate(judged, validation, device)
    final = calibrated(judged, calibration)
    threshold, iou = choose_threshold(final, validation, device)
    return Fitted(
        net=learner.average,
        calibration=calibration,
        threshold=threshold,
        merge_below=choose_merge_below(final, validation, device),
        validation_iou=iou,
        steps=reached.step,
        minutes=reached.seconds / 60,
        final_loss=reached.loss,
        history=reached.seen(iou).history,
    )


def measure_budget_used(config: TrainConfig, reached: Reached) -> float:
    """Return which share of the budget of a training is used up."""
    if config.steps:
        return reached.step / config.steps
    return reached.seconds / 60 / (config.minutes or math.inf)
