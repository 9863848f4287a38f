"""Training: one readable loop."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segem.config import Precision, TrainConfig
from segem.errors import ModelError
from segem.kernels.metrics.iou import Confusion
from segem.learn.allocator import keep_activations
from segem.learn.batches import ahead, batches_of, seed_of
from segem.learn.calibrated import calibrated
from segem.learn.checkpoint import Checkpoints, Reached
from segem.learn.checks import check_predicted, check_sections, warn_of_small_sections
from segem.learn.interrupt import interrupt_deferred
from segem.learn.losses import MembraneLoss
from segem.learn.models.registry import build, encoder_of, geometry, patch_px, pretrain, spec_of
from segem.learn.patches import PatchClassifier
from segem.learn.pieces import in_pieces
from segem.learn.platt import calibration_of
from segem.learn.rehearsal import forgotten, keep_statistics
from segem.learn.sections import LabelledSection
from segem.learn.supervision import supervised
from segem.learn.watch import Point, Watch
from segem.records.card import Calibration

THRESHOLDS = np.round(np.arange(0.1, 0.96, 0.025), 3)


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
    """As of the last look; None before the first."""


@dataclass(frozen=True)
class Fitted:
    """What training yields."""

    net: nn.Module
    """Not calibrated."""
    calibration: Calibration
    threshold: float
    validation_iou: float
    steps: int
    minutes: float
    """All that were spent on training, also before it was interrupted."""
    final_loss: float
    points: tuple[Point, ...]
    """What was reached on the way, and in the end."""

    @property
    def calibrated_net(self) -> nn.Module:
        """The net whose probabilities the threshold is for."""
        return calibrated(self.net, self.calibration)


def fit(
    train: Sequence[LabelledSection],
    validation: Sequence[LabelledSection],
    config: TrainConfig,
    *,
    start: nn.Module | None = None,
    device: torch.device | str = "cpu",
    on_step: Callable[[Progress], None] | None = None,
    on_look: Callable[[NDArray[np.float32], Sequence[Point]], None] | None = None,
    kept: Checkpoints | None = None,
) -> Fitted:
    """Train a net, and calibrate it and choose its threshold on the validation sections.

    Parameters
    ----------
    train, validation : sequences of LabelledSection
        Disjoint sections.
    config : TrainConfig
        Architecture, budget, crops, optimiser and seed.
    start : Module, optional
        A net of that architecture to go on from; when absent a fresh one, filled with the ``pretrained`` weights of the
        configuration if it names any.
    device : device
        Where to compute.
    on_step : callable, optional
        Called after every step, for a progress bar.
    on_look : callable, optional
        Called now and then with the probability on the first validation section and the curve so far, to show them.
    kept : Checkpoints, optional
        Where to go on from, and to put aside what has been learned so far.

    Returns
    -------
    Fitted
        The net with averaged weights, in evaluation mode, and its threshold.

    Raises
    ------
    InputError
        When there is nothing to learn from: no sections, tiny ones, one grey level or truth of one class only.
    ModelError
        When the loss is no longer finite, or pretrained weights cannot be had or do not fit.
    WorkspaceError
        When the disk refuses a checkpoint.
    KeyboardInterrupt
        At Ctrl-C, after the step under way, with what was learned put aside.
    """
    keep_activations()
    check_sections(train, "train")
    check_sections(validation, "validation")
    warn_of_small_sections(train, patch_px(config.model, config.architecture) or config.crop_px)
    torch.manual_seed(config.seed)
    net = copy.deepcopy(start) if start is not None else build(config.model, config.architecture)
    if start is None and config.pretrained is not None:
        pretrain(config.model, net, config.pretrained)
    net = net.requires_grad_(True).train().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.freeze is not None:
        _freeze(net, encoder_of(config.model))
    patches = patch_px(config.model, config.architecture) is not None
    average = copy.deepcopy(net).eval().requires_grad_(False)
    judged = in_pieces(average, geometry(config.model, config.architecture))
    learner, loss_of = supervised(net, MembraneLoss(), config) if config.deep_supervision else (net, MembraneLoss())
    logits_of = _of_crops(learner, patches)
    before = None
    if start is not None and config.remember and any(section.rehearsed for section in train):
        before = _of_crops(copy.deepcopy(average), patches)
        keep_statistics(net)
    rate = config.learning_rate or spec_of(config.model).learning_rate
    optimizer = torch.optim.AdamW(learner.parameters(), lr=rate, weight_decay=config.weight_decay)
    half = computes_in_half(config.precision, torch.device(device))
    reached = kept.restore(learner, average, optimizer) if kept is not None else Reached()
    watch = Watch()
    started = time.monotonic() - reached.seconds
    fraction = _fraction(config, reached)
    with ahead(batches_of(train, config, reached.step)) as batches, interrupt_deferred() as interrupted:
        while fraction < 1:
            for group in optimizer.param_groups:
                group["lr"] = rate * _schedule(fraction)
            torch.manual_seed(seed_of(config.seed, reached.step))
            batch = next(batches)
            image = batch.image.to(device, memory_format=torch.channels_last)
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
                logits = logits_of(image)
                final = logits[1] if config.deep_supervision else logits
                lost = forgotten(before, image, final, batch.rehearsed) if before is not None else 0.0
            loss = config.remember * lost + loss_of(logits, batch.truth.to(device), batch.weight.to(device))
            step = reached.step + 1
            value = _finite(loss, step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(learner.parameters(), 5.0)
            optimizer.step()
            _update_average(average, net, config.ema_decay, step)
            recent = value if step == 1 else 0.98 * reached.loss + 0.02 * value
            seconds = time.monotonic() - started
            points = reached.points
            if watch.due():
                with watch.looking(seconds):
                    iou = choose_threshold(judged, validation, device)[1]
                    points += (Point(step=step, seconds=seconds, loss=recent, validation_iou=iou),)
                    if on_look is not None:
                        on_look(predict_section(judged, validation[0].image, device), points)
            reached = Reached(step=step, seconds=seconds, loss=recent, points=points)
            fraction = _fraction(config, reached)
            stopped = interrupted()
            if kept is not None:
                kept.keep(reached, learner, average, optimizer, at_once=stopped)
            if stopped:
                raise KeyboardInterrupt
            if on_step is not None:
                on_step(Progress(min(fraction, 1.0), recent, points[-1].validation_iou if points else None))
    calibration = calibrate(judged, validation, device)
    threshold, iou = choose_threshold(calibrated(judged, calibration), validation, device)
    last = Point(step=reached.step, seconds=reached.seconds, loss=reached.loss, validation_iou=iou)
    minutes, points = reached.seconds / 60, (*reached.points, last)
    return Fitted(average, calibration, threshold, iou, reached.step, minutes, reached.loss, points)


def calibrate(net: nn.Module, sections: Sequence[LabelledSection], device: torch.device | str = "cpu") -> Calibration:
    """Return the calibration of a net by labelled sections; each volume counts as much as any other.

    Raises
    ------
    InputError, ModelError
        When there is nothing to calibrate by, or the net gives NaN or infinity.
    """
    check_sections(sections, "validation")
    volumes: dict[str, list[tuple[NDArray[np.float32], NDArray[np.uint8]]]] = {}
    for section in sections:
        logits = predict_section(net, section.image, device, of_logits=lambda x: x)
        check_predicted(logits, f"a validation section of {section.volume}")
        volumes.setdefault(section.volume, []).append((logits, section.truth))
    return calibration_of(list(volumes.values()))


def choose_threshold(
    net: nn.Module, sections: Sequence[LabelledSection], device: torch.device | str = "cpu"
) -> tuple[float, float]:
    """Return the threshold with the best membrane IoU, averaged over volumes, and that IoU."""
    pooled: dict[str, list[Confusion]] = {}
    for section in sections:
        probability = predict_section(net, section.image, device)
        counts = [Confusion.count(section.truth, (probability >= t).astype(np.uint8)) for t in THRESHOLDS]
        before = pooled.get(section.volume)
        pooled[section.volume] = counts if before is None else [a + b for a, b in zip(before, counts, strict=True)]
    curve = np.mean([[c.iou for c in counts] for counts in pooled.values()], axis=0)
    best = int(np.argmax(curve))
    return float(THRESHOLDS[best]), float(curve[best])


@torch.inference_mode()
def predict_section(
    net: nn.Module,
    image: NDArray[np.float32],
    device: torch.device | str = "cpu",
    of_logits: Callable[[Tensor], Tensor] = torch.sigmoid,
) -> NDArray[np.float32]:
    """Return the membrane probability (H, W) of a whole section, given as (C, H, W) z-scores."""
    x = torch.from_numpy(np.ascontiguousarray(image))[None].to(device)
    probability: NDArray[np.float32] = of_logits(net(x))[0, 0].float().cpu().numpy()
    return probability


def computes_in_half(precision: Precision, device: torch.device) -> bool:
    """Return whether to train in mixed precision; ``auto`` does so where bfloat16 is computed by the hardware.

    Processors without it emulate it, several times slower than float32. The weights themselves stay float32.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _freeze(net: nn.Module, prefix: str) -> None:
    """Keep a part of a net from learning: its weights, and the statistics of its batch norm."""
    for name, module in net.named_modules():
        if f"{name}.".startswith(prefix):
            module.eval().requires_grad_(False)


def _of_crops(net: nn.Module, patches: bool) -> Callable[[Tensor], Any]:
    """Return what is computed of the crops of a batch; a net of patches gives one pixel of each."""
    return cast(PatchClassifier, net).logits_of_patches if patches else net


def _finite(loss: Tensor, step: int) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ModelError(
            "training failed: the loss is not a finite number",
            where=f"step {step}",
            found=value,
            fix="lower the learning rate, and check that the images show tissue",
        )
    return value


def _fraction(config: TrainConfig, reached: Reached) -> float:
    """Return which share of the budget is used up."""
    if config.steps:
        return reached.step / config.steps
    return reached.seconds / 60 / (config.minutes or math.inf)


def _schedule(fraction: float, warm_up: float = 0.03) -> float:
    """Return the learning-rate factor: a short linear warm-up, then half a cosine to 1 %."""
    if fraction < warm_up:
        return 0.1 + 0.9 * fraction / warm_up
    progress = (fraction - warm_up) / (1 - warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@torch.no_grad()
def _update_average(average: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    # The decay grows with the steps, so that a short run is not dominated by its random start.
    decay = min(decay, (1 + step) / (10 + step))
    for kept, current in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(current, 1 - decay)
        else:
            kept.copy_(current)
