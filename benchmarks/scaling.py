"""What a data set of 1 TB to 1 PB would take, and how many workers one coordinator can keep at work.

    .venv/bin/python benchmarks/scaling.py [--blocks-per-second 2000] [--core 1.16] [--devices 5 20 80]

Nothing of it is measured at that size: rates of one worker and of the coordinator (benchmarks/coordinator.py) are
measured on one machine, and carried on by arithmetic and by a simulation. In the simulation each worker computes a
block, hands it in, waits until the coordinator has taken it and named the next, and goes on; the coordinator takes one
at a time. Workers fail at random, lose the block they are at, and come back after a while.
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from machine import provenance

BLOCK_VOXELS = 4_194_304
"""Of a block, see `segem.io.shards.shard_shape`."""
LEDGER_ROW_BYTES = 195
"""Of a row of the step that segments, measured with 100,000 of them."""
RESULT_BYTES = 0.85
"""On disk for each voxel: probability, masks and their pyramids, measured on seven stacks (0.7 to 0.95)."""
SETS = {"1 TB": 1e12, "100 TB": 1e14, "1 PB": 1e15}
WORKERS = (100, 300, 1000, 3000, 10_000)
HOUR = 3600.0


@dataclass(frozen=True)
class Site:
    """What is simulated."""

    workers: int
    seconds_a_block: float
    spread: float = 0.2
    """Standard deviation of the logarithm of a block's time: sections differ, and so do machines."""
    coordinator: float = 2000.0
    """Blocks that it takes a second."""
    hours_between_failures: float = 100.0
    """Of one worker, on average; walltime counts as a failure."""
    minutes_to_return: float = 10.0


@dataclass(frozen=True)
class Found:
    """What the simulation found, of the second half of its time."""

    blocks_per_second: float
    at_work: float
    """Of what as many workers would do that never wait nor fail."""
    wait_seconds: float
    """From handing a block in to the next one, 95 of 100 times no longer."""
    lost: float
    """Blocks begun and lost, for each that was finished."""


def simulate(site: Site, *, rounds: int = 30, seed: int = 0) -> Found:
    """Let every worker compute about `rounds` blocks, and return what of the second half of the time.

    Parameters
    ----------
    site : Site
        Workers, times and failures.
    rounds : int
        How long, in times of one block.
    seed : int
        Of the times.

    Returns
    -------
    Found
    """
    rng = np.random.default_rng(seed)
    end = rounds * max(site.seconds_a_block, site.workers / site.coordinator)
    failing = site.hours_between_failures * HOUR
    mean = math.log(site.seconds_a_block) - site.spread**2 / 2
    # Jobs of an array start over a while, not in one moment.
    events = [
        (float(at), worker, "begin") for worker, at in enumerate(rng.uniform(0, site.seconds_a_block, site.workers))
    ]
    heapq.heapify(events)
    waiting: deque[tuple[int, float]] = deque()
    serving = False
    done = lost = 0
    waits: list[float] = []

    def begin(worker: int, now: float) -> None:
        nonlocal lost
        takes, fails = float(rng.lognormal(mean, site.spread)), float(rng.exponential(failing))
        if fails < takes:
            lost += 1
            heapq.heappush(events, (now + fails + site.minutes_to_return * 60, worker, "begin"))
        else:
            heapq.heappush(events, (now + takes, worker, "hand in"))

    while events and events[0][0] < end:
        now, worker, what = heapq.heappop(events)
        if what == "begin":
            begin(worker, now)
            continue
        if what == "hand in":
            waiting.append((worker, now))
        else:
            serving = False
            served, since = waiting.popleft()
            if now > end / 2:
                done += 1
                waits.append(now - since)
            begin(served, now)
        if waiting and not serving:
            serving = True
            heapq.heappush(events, (now + 1 / site.coordinator, waiting[0][0], "taken"))
    rate = done / (end / 2)
    return Found(
        rate,
        rate * site.seconds_a_block / site.workers,
        float(np.quantile(waits, 0.95)) if waits else math.inf,
        lost / max(1, done),
    )


def print_cost(rates: dict[str, float]) -> None:
    """Print hours of one worker, and what the results take, for every size of data set."""
    hours = [f"{name}, hours" for name in rates]
    print("| | " + " | ".join(["blocks", "rows of the ledger", "results", *hours]) + " |")
    print("|---|" + "---:|" * (3 + len(rates)))
    for name, voxels in SETS.items():
        blocks = voxels / BLOCK_VOXELS
        cells = [
            f"{blocks:,.0f}",
            f"{blocks * LEDGER_ROW_BYTES / 1e9:,.2f} GB",
            f"{voxels * RESULT_BYTES / 1e12:,.1f} TB",
        ]
        cells += [f"{voxels / 1e6 / rate / HOUR:,.0f}" for rate in rates.values()]
        print(f"| {name} | " + " | ".join(cells) + " |")


def print_workers(site: Site, rates: dict[str, float]) -> None:
    """Print how much of what workers could do is done, for each rate of one worker."""
    print("| workers | " + " | ".join(f"{name}: blocks/s, at work, wait" for name in rates) + " |")
    print("|---:|" + "---|" * len(rates))
    for workers in WORKERS:
        cells = []
        for rate in rates.values():
            found = simulate(replace(site, workers=workers, seconds_a_block=BLOCK_VOXELS / 1e6 / rate))
            cells.append(f"{found.blocks_per_second:,.0f}, {found.at_work:.0%}, {found.wait_seconds:.3f} s")
        print(f"| {workers:,} | " + " | ".join(cells) + " |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks-per-second", type=float, default=2000, help="what the coordinator takes")
    parser.add_argument("--core", type=float, default=1.16, help="Mpx/s of one core of a processor")
    parser.add_argument("--devices", type=float, nargs="*", default=[5, 20, 80], help="Mpx/s of one GPU, assumed")
    parser.add_argument("--hours-between-failures", type=float, default=100)
    given = parser.parse_args(arguments)
    rates = {"core": given.core} | {f"GPU of {rate:g} Mpx/s": rate for rate in given.devices}
    print(provenance(), end="\n\n")
    print_cost(rates)
    print()
    print_workers(
        Site(1, 1.0, coordinator=given.blocks_per_second, hours_between_failures=given.hours_between_failures), rates
    )


if __name__ == "__main__":
    main()
