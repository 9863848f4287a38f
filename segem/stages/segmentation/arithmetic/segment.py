"""A model applied to a block: voxels, statistics and weights in, probability and mask out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from segem.config import Device, RuntimeName
from segem.errors import ModelError
from segem.io.cache import bytes_to_decode_once
from segem.io.tissue import TissueReader
from segem.io.volume import Volume
from segem.kernels.threshold import threshold_probability
from segem.learn.artefact import Artefact, geometry_of, load_artefact
from segem.learn.engine import Engine, choose_device
from segem.learn.runtimes.choice import runtime_identity
from segem.learn.scale import AS_IS, Scale, net_at
from segem.plan import Block, Plan
from segem.stages.segmentation.arithmetic.block import Computed, Voxels, count_membrane, outside_of

READ_CACHE_BYTES = 256 * 2**20
"""Most memory for decoded chunks that the blocks to come will read again."""


@dataclass(frozen=True)
class SegmentArithmetic:
    """Computes probability and mask of one block."""

    source: Path
    artefact: Path
    model_digest: str
    device: Device
    plan: Plan
    threshold: float
    token: str
    """Unique to one sweep, so that a long-lived process never uses a net it opened for an earlier one."""
    runtime: RuntimeName = "torch"
    quantized: Path | None = None
    views: int = 1
    threads: int = 1
    """Tiles that the memory allows side by side."""
    scales: tuple[Scale, ...] = (AS_IS,)
    """At which the model sees the volume."""

    @cached_property
    def runtime_identity(self) -> str:
        """What computes, as it goes into the identity of blocks."""
        return runtime_identity(self.runtime, choose_device(self.device), self.quantized)

    def read(self, block: Block) -> Voxels:
        """Return the intensities of a block with its halo."""
        return _reader(self).read(block.read).arrays

    def made_of(self, block: Block) -> Mapping[str, Any]:  # noqa: ARG002 - every block is made of the same
        """Return the weights, the statistics and the settings."""
        source, artefact = _open(self)
        return {
            # Device, threads and token are left out: they change no byte, or are part of the runtime's name.
            "weights": artefact.digest,
            "statistics": source.statistics.to_dict(),
            "threshold": self.threshold,
            "views": self.views,
            "scales": [scale.pair for scale in self.scales],
            "runtime": self.runtime_identity,
        }

    def compute(self, block: Block, voxels: Voxels, threads: int | None, on_voxels: Callable[[int], None]) -> Computed:
        """Return the probability and the mask of a block."""
        with _OPENING:
            engine = _engine(self, min(threads or self.threads, self.threads))
        statistics = _open(self)[0].statistics
        image, *outside = voxels
        probability = engine.predict_block(self.plan, block, image, statistics, on_voxels, stored=True)
        nowhere = outside_of(block, tuple(outside))
        if nowhere is not None:
            probability[nowhere] = 0
        # Of the 8 bits that are stored, so that the mask is that of the probability on disk.
        mask = threshold_probability(probability, self.threshold)
        return Computed((probability, mask), count_membrane(mask))


_ENGINES: dict[tuple[SegmentArithmetic, int], Engine] = {}
_OPENING = Lock()
"""Several blocks are computed at the same time; the first of them opens the engine for all."""


@lru_cache(maxsize=1)
def _open(work: SegmentArithmetic) -> tuple[Volume, Artefact]:
    artefact = load_artefact(work.artefact)
    # A worker opens the model later than the coordinator, which has put its digest into the record.
    if artefact.digest != work.model_digest:
        raise ModelError("the model was replaced during the run", where=work.artefact, fix="run the same command again")
    return Volume.open(work.source), artefact


@lru_cache(maxsize=1)
def _reader(work: SegmentArithmetic) -> TissueReader:
    volume = _open(work)[0]
    # Never more than pays: with that budget no chunk is decoded twice.
    needed = sum(bytes_to_decode_once(layer, work.plan) for layer in (volume.raw, volume.outside) if layer is not None)
    return TissueReader(volume, min(needed, READ_CACHE_BYTES))


def _engine(work: SegmentArithmetic, threads: int) -> Engine:
    """Return the engine of this process, opened when it is first asked for."""
    # One engine at a time: two nets would not fit the memory that is planned for one.
    if (work, threads) not in _ENGINES:
        release()
        _ENGINES[work, threads] = _opened_engine(work, threads)
    return _ENGINES[work, threads]


def _opened_engine(work: SegmentArithmetic, threads: int) -> Engine:
    artefact = _open(work)[1]
    context = geometry_of(artefact.card).context_sections
    net, device = net_at(artefact, *work.scales), choose_device(work.device)
    return Engine(net, device, context, threads, views=work.views, runtime=work.runtime, quantized=work.quantized)


def release() -> None:
    """Give back what an earlier volume held in this process: nets, threads, decoded chunks."""
    while _ENGINES:
        _ENGINES.popitem()[1].close()
    _reader.cache_clear()
