"""Makes an 8-bit copy of a model for one volume, and refuses it where the mask would change too much."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segem.geometry import Box, Halo
from segem.io.tissue import read_tissue
from segem.io.volume import Volume
from segem.kernels.threshold import quantize_probability, threshold_probability
from segem.learn.artefact import Artefact
from segem.learn.engine import Engine, choose_device, tile_channels
from segem.learn.runtimes.base import Channels
from segem.learn.runtimes.choice import runtime_identity
from segem.learn.runtimes.openvino import is_whole, quantize
from segem.learn.scale import Net, Scale, geometry_at, net_at
from segem.plan import Block, Tile

SAMPLE_TILES = 32
"""Tiles sampled over the volume; every other one calibrates the model, the rest test it."""
SAMPLE_PX = 256


@dataclass(frozen=True)
class Quantized:
    """An 8-bit model, or why it was refused."""

    model: Path | None
    """Folder of the model; None where it was refused."""
    disagreement: float
    """Share of the sampled voxels whose mask differs between 8 bits and float32."""


def quantized(
    artefact: Artefact,
    source: Volume,
    threshold: float,
    tolerance: float,
    folder: Path,
    code: str,
    scales: Sequence[Scale],
) -> Quantized:
    """Quantise a net on the volume's own tiles and compare the masks on others.

    Parameters
    ----------
    artefact : Artefact
        The model.
    source : Volume
        The volume to be segmented.
    threshold : float
        Probability that makes membrane.
    tolerance : float
        Largest share of voxels whose mask may differ.
    folder : Path
        Where the model for this volume is kept, so that a resumed run uses the same one.
    code : str
        sha256 of the code that computes blocks: other code makes another model.
    scales : sequence of Scale
        At which the model sees the volume.

    Returns
    -------
    Quantized

    Raises
    ------
    SegemError
        When the volume cannot be read, the net cannot be converted or the disk refuses.
    """
    # All that decides the 8-bit model. It is kept with the run under this digest, because its very bytes are part of
    # the identity of every block.
    made_of = {
        "weights": artefact.digest,
        "volume": source.attributes.get("source_digest"),
        "statistics": source.statistics.to_dict(),
        "code": code,
        "scales": [scale.pair for scale in scales],
        "runtime": runtime_identity("openvino", choose_device("cpu")),
    }
    path = folder / hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]
    geometry = geometry_at(artefact.card, *scales)
    tiles = sample_tiles(source, geometry.context_sections, geometry.stride_px)
    if not is_whole(path):
        # A model for other weights or voxels is of no use to this run any more.
        shutil.rmtree(folder, ignore_errors=True)
        quantize(net_at(artefact, *scales), geometry.context_sections, tiles[::2], path)
    # On tiles that calibration has not seen, or the comparison would flatter it.
    disagreement = _disagreement(net_at(artefact, *scales), geometry.context_sections, tiles[1::2], threshold, path)
    return Quantized(path if disagreement <= tolerance else None, disagreement)


def sample_tiles(source: Volume, context: int, stride_px: int, count: int = SAMPLE_TILES) -> list[Channels]:
    """Return what a net sees of tiles spread evenly over a volume; the same tiles each time."""
    depth, height, width = source.shape
    edge = max(1, SAMPLE_PX // stride_px) * stride_px
    rows, columns = (range(0, max(1, n - edge + 1), stride_px) for n in (height, width))
    volume, tiles = Box.of_shape(source.shape), []
    for k in range(count):
        # 0.7549 and 0.5698 are the steps of the R2 sequence, which does in two dimensions what steps of the golden
        # ratio do in one: any number of tiles is spread evenly.
        z = (2 * k + 1) * depth // (2 * count)
        y, x = (steps[int(len(steps) * ((k + 1) * ratio % 1))] for steps, ratio in ((rows, 0.7549), (columns, 0.5698)))
        box = Box((z, y, x), (z + 1, min(height, y + edge), min(width, x + edge)))
        read = box.grow(Halo(context // 2, 0, 0), volume)
        tile = Tile(box, box)
        voxels = read_tissue(source, read).image
        tiles.append(tile_channels(tile, Block((0, 0, 0), box, read, (tile,)), voxels, source.statistics, context))
    return tiles


def _disagreement(net: Net, context: int, tiles: list[Channels], threshold: float, model: Path) -> float:
    # Masks are compared, not probabilities: the tolerance is one of the mask.
    cpu = choose_device("cpu")
    with Engine(net, cpu, context, runtime="openvino") as exact:
        expected = [threshold_probability(quantize_probability(p), threshold) for p in exact.probabilities(tiles)]
    with Engine(net, cpu, context, runtime="openvino-int8", quantized=model) as coarse:
        found = [threshold_probability(quantize_probability(p), threshold) for p in coarse.probabilities(tiles)]
    different = sum(np.count_nonzero(a != b) for a, b in zip(expected, found, strict=True))
    return float(different / sum(mask.size for mask in expected))
