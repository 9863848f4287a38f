"""The batches of augmented crops that a net learns from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from segem.config import TrainConfig
from segem.errors import ConfigError
from segem.kernels.borders import border_weights
from segem.kernels.truth import is_known
from segem.learn.augment import IMAGE, LABEL, WEIGHT, build_augmentation
from segem.learn.models.registry import patch_px, spec_of
from segem.learn.patches import cut_patch

if TYPE_CHECKING:
    from segem.learn.sections import LabelledSection


class Batch(NamedTuple):
    """Augmented crops with their truth, or patches with that of their centres."""

    image: Tensor
    """(B, C, H, W) float32 z-scores."""
    truth: Tensor
    """(B, 1, H, W) float32, 1 = membrane."""
    weight: Tensor
    """(B, 1, H, W) float32, 0 where nothing is known."""
    rehearsed: Tensor
    """(B,) bool: which come from rehearsed volumes."""


def derive_seed(seed: int, step: int) -> int:
    """Return the seed of all that is random in one step, so that no step depends on those before it."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])


def draw_batches(sections: Sequence[LabelledSection], config: TrainConfig, first: int = 0) -> Iterator[Batch]:
    """Yield augmented batches without end, drawing volumes in proportion to their weights.

    Each batch follows from the seed and its number alone, counted from `first`.

    A net that is trained on patches gets patches, with truth and weight of their centres.

    Raises
    ------
    ConfigError
        When crops are to have other pixel sizes, and the net learns from patches or a volume does not state its own.
    """
    batch = config.batch or spec_of(config.model).batch
    patch = patch_px(config.model, config.architecture)
    if patch and config.pixel_nm is not None:
        raise ConfigError(
            "a net that learns from patches sees them at one pixel size",
            where=config.model,
            found=f"pixel_nm {config.pixel_nm[0]:g},{config.pixel_nm[1]:g}",
            fix="leave out pixel_nm, or take another architecture",
        )
    augment = build_augmentation(patch or config.crop_px, config.seed, config.defects, config.appearance)
    weighted = [border_weights(section.truth, config.border_weight, config.border_sigma_px) for section in sections]
    by_volume: dict[str, list[tuple[LabelledSection, NDArray[np.float32]]]] = {}
    for section, weight in zip(sections, weighted, strict=True):
        # Without one known pixel nothing can be learned, and there is none to put a crop around.
        if not weight.any():
            continue
        by_volume.setdefault(section.volume, []).append((section, weight))
    # Sorted, so that the draw does not depend on the order of volumes in the manifest.
    volumes = sorted(by_volume)
    weights = np.array([by_volume[volume][0][0].weight for volume in volumes])
    labelled = slice(patch // 2, patch // 2 + 1) if patch else slice(None)
    for number in count(first):
        seed = derive_seed(config.seed, number)
        rng, crops, rehearsed = np.random.default_rng(seed), [], []
        # Seeded anew for each batch: batch n is the same whether or not the training was interrupted before it.
        augment.set_random_state(seed)
        for turn in range(batch):
            # A volume first, then one of its sections: its weight decides how often it is drawn, not its size.
            candidates = by_volume[rng.choice(volumes, p=weights / weights.sum())]
            section, weight = candidates[rng.integers(len(candidates))]
            if patch:
                # Every other patch is centred on membrane, the rarer class; counted on over batches, which may be odd.
                crop = cut_patch(_layers(section, weight), patch, membrane=(number * batch + turn) % 2, rng=rng)
            else:
                crop = cut_crop(section, weight, draw_edge(section, config, rng), rng)
                crop = resample(crop, config.crop_px)
            crops.append(augment(crop))
            rehearsed.append(section.rehearsed)
        truth, weight_map = (_stacked(crops, key)[..., labelled, labelled] for key in (LABEL, WEIGHT))
        yield Batch(_stacked(crops, IMAGE), truth, weight_map, torch.tensor(rehearsed))


@contextmanager
def prefetch(batches: Iterator[Batch]) -> Iterator[Iterator[Batch]]:
    """Prepare the next batches in a thread while the net computes."""
    # One thread only: a generator cannot run in two, and batches must come in the order of their numbers. Two batches
    # ahead hide one that takes longer, and bound the memory.
    with ThreadPoolExecutor(1, "augment") as pool:
        coming = deque(pool.submit(next, batches) for _ in range(2))

        def take() -> Iterator[Batch]:
            while True:
                coming.append(pool.submit(next, batches))
                yield coming.popleft().result()

        try:
            yield take()
        finally:
            for future in coming:
                future.cancel()


def _stacked(crops: Sequence[Mapping[str, Any]], key: str) -> Tensor:
    return torch.stack([torch.as_tensor(np.asarray(crop[key])) for crop in crops]).float()


def _layers(section: LabelledSection, weight: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return {IMAGE: section.image, LABEL: section.truth[np.newaxis].astype(np.float32), WEIGHT: weight[np.newaxis]}


def draw_edge(section: LabelledSection, config: TrainConfig, rng: np.random.Generator) -> int:
    """Return the edge of a crop that, resampled to its usual edge, has a random pixel size of the configured range.

    Every factor is as likely as any other. A section that is too small to be seen at the coarsest size is seen whole.
    """
    if config.pixel_nm is None:
        return config.crop_px
    if section.pixel_nm is None:
        raise ConfigError(
            "crops cannot be resampled to another pixel size",
            where=section.volume,
            found="a volume of unknown pixel size",
            fix="say how large its pixels are, or leave out pixel_nm",
        )
    finest, coarsest = np.log(config.pixel_nm)
    drawn, own = float(np.exp(rng.uniform(finest, coarsest))), float(np.mean(section.pixel_nm))
    height, width = (int(edge) for edge in section.truth.shape)
    return min(max(1, round(config.crop_px * drawn / own)), max(config.crop_px, min(height, width)))


def resample(crop: dict[str, NDArray[np.float32]], edge_px: int) -> dict[str, NDArray[np.float32]]:
    """Return the layers of a crop with another edge: images averaged, truth and weights by the nearest pixel.

    Examples
    --------
    >>> layers = {IMAGE: np.array([[[0, 4], [8, 4]]], np.float32), LABEL: np.array([[[0, 1], [1, 0]]], np.float32)}
    >>> {key: layer.tolist() for key, layer in resample(layers, 1).items()}
    {'image': [[[4.0]]], 'label': [[[0.0]]]}
    """
    if crop[LABEL].shape[-1] == edge_px:
        return crop
    size = (edge_px, edge_px)
    resampled = {}
    for key, layer in crop.items():
        values = torch.from_numpy(np.ascontiguousarray(layer))[None]
        # Averaged over what one pixel covers: skipping pixels would show noise that no coarser image has.
        smooth = {"mode": "bilinear", "antialias": True} if key == IMAGE else {"mode": "nearest-exact"}
        resampled[key] = F.interpolate(values, size, **smooth)[0].numpy()
    return resampled


def cut_crop(
    section: LabelledSection, weight: NDArray[np.float32], crop_px: int, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Return a crop of a section, its truth and its weight, in which something is known."""
    layers = _layers(section, weight)
    short = [max(0, crop_px - n) for n in section.truth.shape]
    if any(short):
        # Mirrored, like the borders that augmentation fills: zeros would be an edge that no tissue has.
        widths = [(0, 0), *((0, n) for n in short)]
        layers = {key: np.pad(layer, widths, mode="reflect") for key, layer in layers.items()}
    room = [n - crop_px for n in layers[LABEL].shape[1:]]
    y, x = (int(rng.integers(n + 1)) for n in room)
    if not is_known(layers[LABEL][0, y : y + crop_px, x : x + crop_px]).any():
        # Nothing could be learned here: centre the crop on a known pixel, or as near to it as the border allows.
        known = np.argwhere(is_known(layers[LABEL][0]))
        y, x = (min(max(int(at) - crop_px // 2, 0), n) for at, n in zip(rng.choice(known), room, strict=True))
    return {key: layer[:, y : y + crop_px, x : x + crop_px] for key, layer in layers.items()}
