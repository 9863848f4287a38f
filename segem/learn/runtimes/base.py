"""What every runtime offers: probabilities in the order of the inputs, however many are computed at once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Channels = NDArray[np.float32]
"""One input, (C, H, W) z-scores."""
Probability = NDArray[np.float32]
"""One output, (H, W) in 0..1; all NaN where the net gave NaN or infinity."""


class Runtime(Protocol):
    """A net that is ready to evaluate tiles."""

    def evaluate(self, inputs: Iterable[Channels]) -> Iterator[Probability]:
        """Yield the membrane probability of each input, in order."""

    def close(self) -> None:
        """Free what is held."""


class TilePool:
    """Evaluates tiles side by side, each by one thread.

    The order of a convolution's sums depends on how many threads share it; with one thread for each tile, the bytes of
    the result depend on neither the number of cores nor the number of workers.

    Parameters
    ----------
    forward : callable
        Takes (C, H, W) float32 and returns (H, W) float32; called from several threads.
    threads : int
        Tiles evaluated at the same time.
    """

    def __init__(self, forward: Callable[[Channels], Probability], threads: int) -> None:
        self.threads = threads
        self._forward = forward
        self._pool = ThreadPoolExecutor(threads, "tile", initializer=torch.set_num_threads, initargs=(1,))

    def evaluate(self, inputs: Iterable[Channels]) -> Iterator[Probability]:
        """Yield the output of each input, in order; at most twice as many inputs as threads are held at a time."""
        running: deque[Future[Probability]] = deque()
        try:
            for channels in inputs:
                running.append(self._pool.submit(self._forward, channels))
                # One tile waits for each thread, so none is idle while the consumer writes; more would only take
                # memory.
                if len(running) >= 2 * self.threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            # A consumer that stops early must not wait for tiles that nobody will read.
            for future in running:
                future.cancel()

    def each(self, function: Callable[[int], None]) -> None:
        """Call a function once for each thread, all at the same time."""
        list(self._pool.map(function, range(self.threads)))

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)


def instructions(device: torch.device) -> str:
    """Return the vector instructions a processor computes with, such as " AVX512": others round differently."""
    return f" {torch.backends.cpu.get_cpu_capability()}" if device.type == "cpu" else ""


def sigmoid(logits: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return probabilities, or NaN for all of them when a logit is NaN or infinite.

    The sigmoid would turn an infinite logit into a plausible 0 or 1. The extremes are NaN if any logit is, and finding
    them takes a tenth of the time of testing each logit.
    """
    if all(math.isfinite(extreme) for extreme in torch.aminmax(logits)):
        return torch.sigmoid(logits, out=out)
    return torch.full_like(logits, torch.nan)
