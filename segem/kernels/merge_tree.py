"""The order in which the parts of a section merge, the weakest border first, until none is left to merge with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from segem.kernels.merging import Borders, merge_rounds

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MergeTree:
    """All links by which parts become one (`segem.kernels.merging.merge_basins`); a link comes after those within it.

    Parameters
    ----------
    borders : Borders
        Between parts 1 to `size.shape[0] - 1`.
    link_of : (k,) int64
        At which link the two sides of each border come together.
    one, other : (n,) int64
        The two sides of each link, each named by the largest of its parts; the first one gives its name to both.
    strength : (n,) float64
        Mean probability of all borders between the two sides, 0 to 1.
    pixels : (n, 2) int64
        Area of the two sides.
    parts : (n, 2) int64
        Number of parts of the two sides.
    order : (p,) int64
        All parts, so that those of a side stand one after the other.
    """

    borders: Borders
    link_of: Ints
    one: Ints
    other: Ints
    strength: NDArray[np.float64]
    pixels: Ints
    parts: Ints
    order: Ints

    @classmethod
    def grow(cls, borders: Borders, pixels: Ints) -> MergeTree:
        """Merge until no border is left.

        Parameters
        ----------
        borders : Borders
            Between the parts of a section.
        pixels : (p + 1,) int64
            Area of each part; of 0 it does not matter.

        Examples
        --------
        >>> chain = Borders.gather(np.array([1, 2]), np.array([2, 3]), np.array([204, 51]))
        >>> tree = MergeTree.grow(chain, np.array([0, 10, 20, 30]))
        >>> tree.strength.tolist(), tree.pixels.tolist(), tree.link_of.tolist()
        ([0.2, 0.8], [[30, 20], [50, 10]], [1, 0])
        >>> [side.tolist() for side in tree.sides(1)]
        [[3, 2], [1]]
        """
        count = pixels.size - 1
        area, held = pixels.copy(), np.ones(count + 1, np.int64)
        belongs, last, follows = np.arange(count + 1), np.arange(count + 1), np.zeros(count + 1, np.int64)
        link_of, newest = np.full(borders.one.size, -1), np.full(count + 1, -1)
        rounds, found = [], 0
        for gone in merge_rounds(borders, count, np.inf):
            one, other = gone.other, gone.one
            rounds.append((one, other, gone.mean, area[one], area[other], held[one], held[other]))
            area[one] += area[other]
            held[one] += held[other]
            follows[last[one]], last[one] = other, last[other]
            newest[one] = found + np.arange(one.size)
            found += one.size
            step = np.arange(count + 1)
            step[gone.one] = gone.other
            belongs = step[belongs]
            together = (link_of < 0) & (belongs[borders.one] == belongs[borders.other])
            link_of[together] = newest[belongs[borders.one[together]]]
        columns = [np.concatenate(part) for part in zip(*rounds, strict=True)] or [np.zeros(0, np.int64)] * 7
        one, other, strength, *sizes = columns
        return cls(
            borders,
            link_of,
            one,
            other,
            strength.astype(np.float64),
            np.stack(sizes[:2], axis=1),
            np.stack(sizes[2:], axis=1),
            _follow(follows, belongs),
        )

    def sides(self, link: int) -> tuple[Ints, Ints]:
        """Return the parts of the two sides of a link."""
        starts = self._place[[self.one[link], self.other[link]]]
        one, other = map(slice, starts, starts + self.parts[link])
        return self.order[one], self.order[other]

    def cut(self, link: int) -> tuple[Ints, Ints]:
        """Return the parts of the two sides of a link, and with each what must not join the two again.

        What merges with both of them only later may touch either. It goes with the one that it has the weaker border
        with, so that what lies between the two sides is as strong as it can be.
        """
        side = np.zeros(self._place.size, np.int8)
        for mark, parts in enumerate(self.sides(link), start=1):
            side[parts] = mark
        for above in self._above(link):
            first, second = self.sides(above)
            joining = second if side[first[0]] else first
            touch = self.link_of == above
            # Of each of these borders, one side is not marked yet.
            marked = np.maximum(side[self.borders.one[touch]], side[self.borders.other[touch]])
            total = np.bincount(marked, self.borders.total[touch], 3)
            length = np.bincount(marked, self.borders.length[touch], 3)
            mean = np.divide(total, length, out=np.full(3, np.inf), where=length > 0)
            side[joining] = 1 if mean[1] <= mean[2] else 2
        return np.flatnonzero(side == 1), np.flatnonzero(side == 2)

    @cached_property
    def _place(self) -> Ints:
        place = np.zeros(self.order.max(initial=0) + 1, np.int64)
        place[self.order] = np.arange(self.order.size)
        return place

    def _above(self, link: int) -> Iterator[int]:
        """Yield the links that the two sides of a link go through together later."""
        at = self._place[self.one[link]]
        starts = np.stack([self._place[self.one], self._place[self.other]])
        holds = ((starts <= at) & (at < starts + self.parts.T)).any(axis=0)
        yield from (np.flatnonzero(holds[link + 1 :]) + link + 1).tolist()


def _follow(follows: Ints, belongs: Ints) -> Ints:
    """Return the parts in the order of their chains, one chain after the other."""
    order = []
    for head in np.flatnonzero(belongs == np.arange(belongs.size))[1:].tolist():
        part = head
        while part:
            order.append(part)
            part = int(follows[part])
    return np.array(order, np.int64)
