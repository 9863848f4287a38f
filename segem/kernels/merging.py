"""The borders between basins, and how basins merge across them, the weakest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Borders:
    """The borders between the basins of a section, one for each two that touch.

    Parameters
    ----------
    one, other : (k,) int64
        Numbers of the two basins, the smaller one first.
    total : (k,) float64
        Sum over the pairs of pixels that touch across the border, one in each basin: the larger probability of the
        two, in steps of 1 / 255. A whole number, so that no order of adding changes it.
    length : (k,) float64
        Number of these pairs.
    """

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    total: NDArray[np.float64]
    length: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean probability of each border, 0 to 1."""
        return self.total / self.length / 255

    def take(self, chosen: NDArray[np.bool_]) -> Borders:
        """Return some of the borders."""
        return Borders(self.one[chosen], self.other[chosen], self.total[chosen], self.length[chosen])

    @classmethod
    def gather(
        cls,
        one: NDArray[np.integer[Any]],
        other: NDArray[np.integer[Any]],
        total: NDArray[Any],
        length: NDArray[Any] | None = None,
    ) -> Borders:
        """Add up what belongs to the same two basins, in whichever order they are named; one pair each by default."""
        count = int(max(one.max(initial=0), other.max(initial=0))) + 1
        keys = np.minimum(one, other).astype(np.int64)
        keys *= count
        keys += np.maximum(one, other)
        # Sorted here and not by `np.unique`, whose way back to each pair would double the memory of a large section.
        order = np.argsort(keys)
        keys = keys[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        keys = keys[first]
        total, length = (
            np.diff(first, append=order.size).astype(np.float64)
            if values is None
            else np.add.reduceat(values[order], first, dtype=np.float64)
            for values in (total, length)
        )
        return cls(keys // count, keys % count, total, length)


def join_borders(parts: list[Borders]) -> Borders:
    """Add up the borders of parts of a section; the list is emptied, as they are as large as what is made of them."""
    names = ("one", "other", "total", "length")
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
    parts.clear()
    return Borders.gather(*columns)


def merge_basins(borders: Borders, count: int, below: float) -> NDArray[np.uint32]:
    """Merge basins from the weakest border on, until no border is weaker than `below`.

    Parameters
    ----------
    borders : Borders
        Between basins 1 to `count`.
    count : int
        Number of basins.
    below : float
        Mean probability, 0 to 1.

    Returns
    -------
    (count + 1,) uint32
        The number of the cell that each basin belongs to, from 1; of 0 it is 0.

    Notes
    -----
    Where two basins become one, their borders with a third one become one border. Its mean is never below both of
    theirs, so two basins that are each other's weakest border stay so until they are merged, whatever else is merged
    before. Of equal borders, that of the first basins is the weaker; two basins that become one are named by the larger
    number, so that no border comes before both of those that it is made of then either. All such pairs are merged at
    once: the outcome is that of one pair after the other in rising order
    (reducibility; F. Murtagh, The Computer Journal 26(4) (1983), doi:10.1093/comjnl/26.4.354).

    Examples
    --------
    >>> chain = Borders.gather(np.array([1, 2, 3]), np.array([2, 3, 4]), np.array([25, 230, 51]))
    >>> merge_basins(chain, 4, below=0.5).tolist()
    [0, 1, 1, 2, 2]
    """
    belongs, rounds = np.arange(count + 1), merge_rounds(borders, count, below)
    del borders
    for _, step in rounds:
        belongs = step[belongs]
    _, numbers = np.unique(belongs, return_inverse=True)
    return numbers.astype(np.uint32)


def merge_rounds(borders: Borders, count: int, below: float) -> Iterator[tuple[Borders, NDArray[np.int64]]]:
    """Merge basins as `merge_basins` does, and yield what is merged at once, round by round.

    Parameters
    ----------
    borders, count, below
        See `merge_basins`.

    Yields
    ------
    Borders
        The borders that vanish, no two of them of one basin.
    (count + 1,) int64
        What each basin is called afterwards: where two become one, by the larger number.

    Examples
    --------
    >>> chain = Borders.gather(np.array([1, 2]), np.array([2, 3]), np.array([25, 51]))
    >>> [(gone.one.tolist(), gone.other.tolist(), step.tolist()) for gone, step in merge_rounds(chain, 3, below=0.5)]
    [([1], [2], [0, 2, 2, 3]), ([2], [3], [0, 1, 3, 3])]
    """
    while True:
        # A total order: of equal borders, the one of the first basins.
        mean = borders.mean
        rank = np.empty(mean.size, np.int64)
        rank[np.lexsort((borders.other, borders.one, mean))] = np.arange(rank.size)
        weakest = np.full(count + 1, rank.size)
        for side in (borders.one, borders.other):
            np.minimum.at(weakest, side, rank)
        merged = (weakest[borders.one] == rank) & (weakest[borders.other] == rank) & (mean < below)
        # A large section has millions of borders: here and below, what is not needed any more goes first.
        del mean, rank, weakest
        if not merged.any():
            return
        step = np.arange(count + 1)
        step[borders.one[merged]] = borders.other[merged]
        yield borders.take(merged), step
        one, other = step[borders.one], step[borders.other]
        kept = one != other
        left = (one[kept], other[kept], borders.total[kept], borders.length[kept])
        del one, other, borders
        borders = Borders.gather(*left)
        del left
