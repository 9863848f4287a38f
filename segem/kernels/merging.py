"""The borders between basins, and how basins merge across them, the weakest first."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLUMNS = ("one", "other", "total", "length")
_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Borders:
    """The borders between the basins of a section, one for each two that touch.

    Parameters
    ----------
    one, other : (k,) int
        Numbers of the two basins, the smaller one first.
    total : (k,) float64
        Sum over the pairs of pixels that touch across the border, one in each basin: the larger probability of the
        two, in steps of 1 / 255. A whole number, so that no order of adding changes it.
    length : (k,) float64
        Number of these pairs.
    """

    one: NDArray[Any]
    other: NDArray[Any]
    total: NDArray[np.float64]
    length: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean probability of each border, 0 to 1."""
        return self.total / self.length / 255

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Borders:
        """Return some of the borders."""
        return Borders(self.one[chosen], self.other[chosen], self.total[chosen], self.length[chosen])

    def number(self, count: int) -> NDArray[np.int64]:
        """Return a number for each border, in the order of its basins, of which there are `count`."""
        key = self.one.astype(np.int64)
        key *= count + 1
        key += self.other
        return key

    def sort(self, count: int) -> Borders:
        """Return the borders in the order of their basins, of which there are `count`."""
        return self.take(np.argsort(self.number(count)))

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
        dtype = np.result_type(one, other)
        return cls((keys // count).astype(dtype), (keys % count).astype(dtype), total, length)


def concatenate_borders(parts: list[Borders]) -> Borders:
    """Return the borders of several lists as one; no two basins may have a border in two of them."""
    return Borders(*(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS))


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
    merging = Merging(count, below)
    merging.merge(borders)
    return merging.cells()


class Merging:
    """Merges basins as `merge_basins` does, while borders of others are still being measured.

    Parameters
    ----------
    count : int
        Number of basins.
    below : float
        Mean probability, 0 to 1.

    Examples
    --------
    >>> merging = Merging(3, below=0.5)
    >>> chain = Borders.gather(np.array([1, 2]), np.array([2, 3]), np.array([25, 51]))
    >>> left = merging.merge(chain, np.array([True, True, True, False]))
    >>> left.one.tolist(), left.other.tolist()
    ([2], [3])
    >>> merging.cells().tolist()
    [0, 1, 1, 2]
    """

    def __init__(self, count: int, below: float) -> None:
        self.below = below
        self._belongs = np.arange(count + 1, dtype=np.uint32)

    def merge(self, borders: Borders, ended: NDArray[np.bool_] | None = None) -> Borders:
        """Merge what can be merged, and return the borders that may matter to what is merged later.

        Parameters
        ----------
        borders : Borders
            Those that the call before has left, and others.
        ended : (count + 1,) bool, optional
            Whether all borders of a basin are among them; all basins when absent. Only such are merged: each other's
            weakest border is known of them, and what is merged before makes no difference.
        """
        # Numbered anew in the same order, as those that are left are few beside all basins.
        basins = np.unique(np.concatenate([borders.one, borders.other]))
        one, other = (np.searchsorted(basins, side).astype(np.uint32) for side in (borders.one, borders.other))
        numbered = Borders(one, other, borders.total, borders.length)
        rounds = merge_rounds(numbered, basins.size, self.below, None if ended is None else ended[basins])
        while True:
            try:
                gone = next(rounds)
            except StopIteration as end:
                left: Borders = end.value
                return Borders(basins[left.one], basins[left.other], left.total, left.length)
            self._belongs[basins[gone.one]] = basins[gone.other]

    def cells(self) -> NDArray[np.uint32]:
        """Return the number of the cell that each basin belongs to, from 1; of 0 it is 0."""
        belongs = self._belongs
        # Each basin leads to a larger one that it has become part of; in the end to the one that names them all.
        while not np.array_equal(further := belongs[belongs], belongs):
            belongs = further
        named = belongs == np.arange(belongs.size)
        numbers = np.cumsum(named, dtype=np.uint32) - np.uint32(1)
        return numbers[belongs]


def merge_rounds(
    borders: Borders, count: int, below: float, ended: NDArray[np.bool_] | None = None
) -> Generator[Borders, None, Borders]:
    """Merge basins as `merge_basins` does, and yield what is merged at once, round by round.

    Parameters
    ----------
    borders, count, below
        See `merge_basins`; here basins may be numbered from 0.
    ended : (count + 1,) or (count,) bool, optional
        See `Merging.merge`.

    Yields
    ------
    Borders
        The borders that vanish, no two of them of one basin, in the order of their basins. Of the two basins of each,
        the larger number is the name of both afterwards.

    Returns
    -------
    Borders
        Those that may matter to what is merged later.

    Examples
    --------
    >>> chain = Borders.gather(np.array([1, 2]), np.array([2, 3]), np.array([25, 51]))
    >>> [(gone.one.tolist(), gone.other.tolist()) for gone in merge_rounds(chain, 3, below=0.5)]
    [([1], [2]), ([2], [3])]
    """
    # Made once for all rounds, as many basins are merged in the first few and the rounds to come are many and small.
    weakest, first = np.full(count + 1, np.inf), np.full(count + 1, _LAST)
    name, chosen = np.arange(count + 1, dtype=borders.one.dtype), np.zeros(count + 1, bool)
    while True:
        borders = _drop_settled(borders, chosen, below, ended)
        # The weakest border of each basin, in a total order: of equal ones, that of the first basins.
        mean, sides = borders.mean, (borders.one, borders.other)
        key = borders.number(count)
        for side in sides:
            np.minimum.at(weakest, side, mean)
        for side in sides:
            equal = mean == weakest[side]
            np.minimum.at(first, side[equal], key[equal])
        merged = mean < below
        for side in sides:
            merged &= first[side] == key
            if ended is not None:
                merged &= ended[side]
        if not merged.any():
            return borders
        for side in sides:
            weakest[side], first[side] = np.inf, _LAST
        # There may be millions of borders: here and below, what is not needed any more goes first.
        del mean, sides, key
        gone = borders.take(merged).sort(count)
        name[gone.one] = gone.other
        yield gone
        borders = borders.take(~merged)
        for side in (gone.one, gone.other):
            chosen[side] = True
        changed = chosen[borders.one] | chosen[borders.other]
        for side in (gone.one, gone.other):
            chosen[side] = False
        moved, borders = borders.take(changed), borders.take(~changed)
        del merged, changed
        moved = Borders.gather(name[moved.one], name[moved.other], moved.total, moved.length)
        borders = concatenate_borders([borders, moved])
        del moved


def _drop_settled(
    borders: Borders, chosen: NDArray[np.bool_], below: float, ended: NDArray[np.bool_] | None
) -> Borders:
    """Leave out the borders of basins that merge with no other, whatever else is merged.

    Of such a basin no border is weaker than `below`, and no border that two of them become is. `chosen` is false for
    every basin, before and after.
    """
    weak = borders.mean < below
    sides = (borders.one, borders.other)
    for side in sides:
        chosen[side[weak]] = True
    kept = np.ones(weak.size, bool)
    for side in sides:
        kept &= chosen[side] if ended is None else chosen[side] | ~ended[side]
    for side in sides:
        chosen[side[weak]] = False
    return borders if kept.all() else borders.take(kept)
