"""A net in training, and what one step does to it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from segem.config import Precision, TrainConfig
from segem.errors import ModelError
from segem.learn.artefact import load_artefact, load_net
from segem.learn.batches import Batch, derive_seed
from segem.learn.distillation import compute_distillation, freeze_batch_norm
from segem.learn.losses import MembraneLoss
from segem.learn.models.registry import build, encoder_of, patch_px, pretrain, spec_of
from segem.learn.patches import PatchClassifier
from segem.learn.supervision import supervise

GRADIENT_NORM = 5.0
"""Largest norm of the gradient of a step, so that one odd crop does not undo the work of thousands."""


class Learner:
    """The nets of one training, its optimiser and its loss.

    Parameters
    ----------
    config : TrainConfig
        Architecture, optimiser and seed.
    base : Module or None
        A net of that architecture to fine-tune. Without one a fresh net is built, and filled with the ``pretrained``
        weights of the configuration if it names any.
    rehearses : bool
        Whether any section shows tissue that the base model was trained on, so that there is something to remember.
    device : device
        Where to compute.
    """

    def __init__(
        self, config: TrainConfig, base: nn.Module | None, rehearses: bool, device: torch.device | str
    ) -> None:
        self.config, self.device = config, torch.device(device)
        # Initial weights follow from the seed alone, whatever was drawn in this process before.
        # torch takes 64 bits of a seed.
        torch.manual_seed(config.seed % 2**64)
        net = copy.deepcopy(base) if base is not None else build(config.model, config.architecture)
        if base is None and config.pretrained is not None:
            pretrain(config.model, net, config.pretrained)
        net = net.requires_grad_(True).train().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.freeze is not None:
            _freeze(net, encoder_of(config.model))
        self.net: nn.Module = net
        # At the end of a training single steps still jump around the optimum. A running average of the weights lies in
        # the middle of these jumps and predicts better than any of them, so the average is what is kept.
        self.average = copy.deepcopy(net).eval().requires_grad_(False)
        # All that is optimised: the net, and with deep supervision the heads on its coarser levels.
        self.module: nn.Module = net
        self._loss: nn.Module = MembraneLoss()
        if config.deep_supervision:
            self.module, self._loss = supervise(net, self._loss, config)
        patches = patch_px(config.model, config.architecture) is not None
        self._logits_of = _of_crops(self.module, patches)
        self._base: Callable[[Tensor], Tensor] | None = None
        # A second pass through a second net takes time, so only where it has a part in the loss.
        if base is not None and config.remember and rehearses:
            self._base = _of_crops(copy.deepcopy(self.average), patches)
            freeze_batch_norm(net)
        self._teacher: nn.Module | None = None
        if config.teacher is not None and config.teach:
            # Not calibrated, like the net that learns from it: that is calibrated after its training.
            self._teacher = load_net(load_artefact(Path(config.teacher)), calibrate=False)
            self._teacher.requires_grad_(False).to(device)
        self.rate = config.learning_rate or spec_of(config.model).learning_rate
        self.optimizer = torch.optim.AdamW(self._groups(), lr=self.rate, weight_decay=config.weight_decay)
        self._half = uses_mixed_precision(config.precision, self.device)

    def step(self, batch: Batch, number: int, fraction: float) -> float:
        """Take one optimisation step; return the loss before it.

        Parameters
        ----------
        batch : Batch
            Augmented crops.
        number : int
            Of the step, from 1.
        fraction : float
            Share of the budget used up before the step, 0 to 1, which sets the learning rate.

        Raises
        ------
        ModelError
            When the loss is not finite; the weights are then as before.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group["share"] * scale_learning_rate(fraction)
        # What a step draws, as in dropout, follows from its number: a resumed training draws the same.
        torch.manual_seed(derive_seed(self.config.seed, number - 1))
        loss = self._loss_of(batch)
        # Before the step: a loss that is not finite must not reach the weights, nor a checkpoint.
        value = _require_finite(loss, number)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.module.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        update_average(self.average, self.net, self.config.ema_decay, number)
        return value

    def _groups(self) -> list[dict[str, Any]]:
        """Return what is optimised, by the share of the learning rate that it learns at."""
        slower = spec_of(self.config.model).slower
        shares = {
            id(weight): share
            for prefix, share in slower.items()
            for name, weight in self.net.named_parameters()
            if name.startswith(prefix)
        }
        by_share: dict[float, list[nn.Parameter]] = {}
        for weight in self.module.parameters():
            by_share.setdefault(shares.get(id(weight), 1.0), []).append(weight)
        return [{"params": weights, "share": share} for share, weights in by_share.items()]

    def _loss_of(self, batch: Batch) -> Tensor:
        image = batch.image.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            logits = self._logits_of(image)
            # Coarser levels are not in the base model's output, so only the finest is compared with it.
            finest = logits[1] if self.config.deep_supervision else logits
            # Labels say on which side of a border a pixel lies, the base model's output also how near it is: with both,
            # less is forgotten than with rehearsed labels alone.
            distilled: Tensor | float = 0.0
            if self._base is not None:
                distilled += self.config.remember * compute_distillation(self._base, image, finest, batch.rehearsed)
            if self._teacher is not None:
                every = torch.ones_like(batch.rehearsed)
                distilled += self.config.teach * compute_distillation(self._teacher, image, finest, every)
        fitted: Tensor = self._loss(logits, batch.truth.to(self.device), batch.weight.to(self.device))
        return distilled + fitted


def scale_learning_rate(fraction: float, warm_up: float = 0.03) -> float:
    """Return the factor of the learning rate when so much of the budget is used up.

    A short linear warm-up keeps the first steps, whose gradients are large and erratic, from destroying what a base
    model knows. Then half a cosine falls to 1 %: large steps find a good region, small ones settle in it. It follows
    the budget, so only a training that ran to its end has its best weights.

    Examples
    --------
    >>> [round(scale_learning_rate(fraction), 2) for fraction in (0, 0.03, 0.5, 1)]
    [0.1, 1.0, 0.53, 0.01]
    """
    if fraction < warm_up:
        return 0.1 + 0.9 * fraction / warm_up
    progress = (fraction - warm_up) / (1 - warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Move the running average of the weights, and of the statistics of batch norm, towards those of a net."""
    # The decay grows with the steps; at its full value the average would hold on to its random start for hundreds.
    decay = min(decay, (1 + step) / (10 + step))
    for kept, current in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(current, 1 - decay)
        else:
            # Counters, such as the number of batches that batch norm has seen, have no meaningful average.
            kept.copy_(current)


def uses_mixed_precision(precision: Precision, device: torch.device) -> bool:
    """Return whether to train in mixed precision; ``auto`` does so where the hardware computes bfloat16.

    Processors without it emulate it, several times slower than float32. The weights themselves stay float32.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _freeze(net: nn.Module, prefix: str) -> None:
    """Exclude a part of a net from training: its weights, and the statistics of its batch norm."""
    for name, module in net.named_modules():
        if f"{name}.".startswith(prefix):
            module.eval().requires_grad_(False)


def _of_crops(net: nn.Module, patches: bool) -> Callable[[Tensor], Any]:
    """Return the function from the crops of a batch to logits; a net for patches gives one pixel of each."""
    return cast(PatchClassifier, net).logits_of_patches if patches else net


def _require_finite(loss: Tensor, step: int) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ModelError(
            "training failed: the loss is not a finite number",
            where=f"step {step}",
            found=value,
            fix="lower the learning rate, and check that the images show tissue",
        )
    return value
