"""Nets whose reach is known by hand, and their entries in the zoo."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from segem.config import Config
from segem.learn.artefact import CARD, WEIGHTS
from segem.learn.models.spec import Geometry, ModelSpec


class ContextOptions(Config):
    context_sections: int = 1


class Intensity(nn.Module):
    """The probability it gives is the intensity / 255 of the middle section, for voxels that are not scaled."""

    def forward(self, x: Tensor) -> Tensor:
        middle = x.shape[1] // 2
        # The logit of 0 and 255 is infinite; 60 is as good in 8 bits.
        return (x[:, middle : middle + 1] / 255).logit().clamp(-60, 60)


class Dilated(nn.Sequential):
    """Reaches 4 px by its dilated convolution and 1 more by the next."""

    def __init__(self, context_sections: int = 1) -> None:
        super().__init__(
            nn.Conv2d(context_sections, 3, 3, padding=4, dilation=4), nn.ReLU(), nn.Conv2d(3, 1, 3, padding=1)
        )


DILATED_REACH_PX = 5


class Pooled(nn.Module):
    """Sees the mean of its whole input beside the pixels around, as DeepLab's image pooling does."""

    def __init__(self, context_sections: int = 1) -> None:
        super().__init__()
        self.features = nn.Conv2d(context_sections, 3, 3, padding=1)
        self.head = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x).relu()
        image = features.mean(dim=(2, 3), keepdim=True).expand_as(features)
        logits: Tensor = self.head(torch.cat([features, image], dim=1))
        return logits


class Band(nn.Module):
    """Calls membrane what lies between two intensities; a negative gain calls it everything else."""

    def __init__(self, context_sections: int = 1) -> None:
        super().__init__()
        self.low, self.high, self.gain = (nn.Parameter(torch.zeros(())) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        middle = x[:, x.shape[1] // 2][:, None]
        return self.gain * torch.minimum(middle - self.low, self.high - middle)


def _entry(name: str, kind: type[nn.Module], stride_px: int) -> ModelSpec:
    return ModelSpec(
        name=name,
        summary="for tests",
        source="",
        options=ContextOptions,
        build=lambda options: kind(options.context_sections),
        geometry=lambda options: Geometry(stride_px, None, options.context_sections),
    )


UNKNOWN_HALO = {"dilated": _entry("dilated", Dilated, 2), "pooled": _entry("pooled", Pooled, 2)}
"""Entries of the zoo whose architecture does not say what halo they need."""

BAND = _entry("band", Band, 1)


def vouch_for_weights(folder: Path) -> None:
    """Let the card of a model be that of the weights that lie beside it now."""
    card = json.loads((folder / CARD).read_text())
    weights = sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / CARD).write_text(json.dumps(card | {"weights_sha256": weights}))
