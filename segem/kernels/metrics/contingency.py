"""Contingency table: how the pixels of true cells are distributed over the segments of a proposal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError

# A table with a place for every number is quicker than sorting the numbers that occur, as long as most of it is cached.
_FEWEST_PLACES, _PLACES_EACH = 2**21, 16


@dataclass(frozen=True)
class Overlaps:
    """The pairs of labels that two label images have in common, each with its pixels.

    Parameters
    ----------
    truth, proposal : ndarray of int, shape (k,)
        The two labels of each pair, as they stand in the images; ordered by truth, then proposal.
    pixels : ndarray of int64, shape (k,)
        How many pixels have both.
    truth_at, proposal_at : ndarray of int64, shape (k,)
        The two labels of each pair as numbers from 0 without gaps, in the order of the labels.
    """

    truth: NDArray[np.integer[Any]]
    proposal: NDArray[np.integer[Any]]
    pixels: NDArray[np.int64]
    truth_at: NDArray[np.int64]
    proposal_at: NDArray[np.int64]

    @classmethod
    def count(
        cls,
        truth: NDArray[np.integer[Any]],
        proposal: NDArray[np.integer[Any]],
        counted: NDArray[np.bool_] | None = None,
    ) -> Overlaps:
        """Count the pixels of each pair of labels.

        Labels may be any whole numbers: neither time nor memory depends on how large they are.

        Parameters
        ----------
        truth, proposal : ndarray of int, of one shape
            Labels; 0 is one like any other.
        counted : ndarray of bool, of that shape, optional
            The pixels that count; all of them when absent.

        Returns
        -------
        Overlaps

        Raises
        ------
        InputError
            When the shapes differ.

        Examples
        --------
        >>> found = Overlaps.count(np.array([[7, 7, 0, 2**63]], np.uint64), np.array([[-1, -1, -1, 4]]))
        >>> list(zip(found.truth.tolist(), found.proposal.tolist(), found.pixels.tolist()))
        [(0, -1, 1), (7, -1, 2), (9223372036854775808, 4, 1)]
        """
        if truth.shape != proposal.shape:
            raise InputError(
                "label images of different shapes cannot be compared",
                expected=truth.shape,
                found=proposal.shape,
                fix="crop them to the same shape",
            )
        first, second = truth.ravel(), proposal.ravel()
        # Labels seldom change from one pixel to the next, so what follows sees runs of pixels, not pixels.
        changes = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
        if counted is not None:
            inside = counted.ravel()
            changes |= inside[1:] != inside[:-1]
        starts = np.concatenate(([0], np.flatnonzero(changes) + 1)) if first.size else np.zeros(0, np.intp)
        lengths = np.diff(starts, append=first.size)
        if counted is not None:
            starts, lengths = starts[inside[starts]], lengths[inside[starts]]
        labels, at = _number(first.take(starts))
        others, beside = _number(second.take(starts))
        keys, pair = _number(at * len(others) + beside)
        # Floats hold every whole number up to 2**53 pixels.
        pixels = np.bincount(pair, lengths).astype(np.int64)
        rows, columns = np.divmod(keys, max(1, len(others)))
        return cls(labels[rows], others[columns], pixels, rows, columns)

    @property
    def in_cells(self) -> NDArray[np.bool_]:
        """Which of the pairs lie in a true cell: their true label is not 0."""
        inside: NDArray[np.bool_] = self.truth != 0
        return inside

    def sum_up(self, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the pixels of each of the chosen pairs, of each of their true labels, and of each proposed one."""
        pixels = self.pixels[chosen]
        return pixels, _add_up(self.truth_at[chosen], pixels), _add_up(self.proposal_at[chosen], pixels)


@dataclass(frozen=True)
class Contingency:
    """Pixel counts of one section, over the pixels in true cells only.

    Parameters
    ----------
    joint : ndarray of int64, shape (k,)
        Pixels common to a true cell and a proposed segment, for each of the `k` pairs that meet.
    truth : ndarray of int64
        Pixels of each true cell, boundary lines of the proposal included.
    proposal : ndarray of int64
        Pixels of each proposed segment, as far as they lie in true cells.
    on_lines : int
        Pixels in true cells that lie on a boundary line of the proposal; each counts as a segment of its own.
    """

    joint: NDArray[np.int64]
    truth: NDArray[np.int64]
    proposal: NDArray[np.int64]
    on_lines: int

    @classmethod
    def count(cls, truth: NDArray[np.integer[Any]], proposal: NDArray[np.integer[Any]]) -> Contingency:
        """Count the pixels that two label images have in common.

        Parameters
        ----------
        truth : ndarray of int, shape (y, x)
            True cells, any numbers; 0 is membrane and is left out.
        proposal : ndarray of int, shape (y, x)
            Proposed segments, any numbers; 0 is a boundary line.

        Returns
        -------
        Contingency

        Raises
        ------
        InputError
            When the shapes differ.

        Examples
        --------
        >>> table = Contingency.count(np.array([[1, 1, 0, 2, 2]]), np.array([[1, 0, 0, 1, 1]]))
        >>> table.joint.tolist(), table.truth.tolist(), table.proposal.tolist(), table.on_lines
        ([1, 2], [2, 2], [3], 1)
        """
        return cls.of(Overlaps.count(truth, proposal))

    @classmethod
    def of(cls, overlaps: Overlaps) -> Contingency:
        """Take the counts from overlaps that were counted before."""
        in_cells, on_line = overlaps.in_cells, overlaps.proposal == 0
        joint, _, proposal = overlaps.sum_up(in_cells & ~on_line)
        _, truth, _ = overlaps.sum_up(in_cells)
        return cls(joint, truth, proposal, int(overlaps.pixels[in_cells & on_line].sum()))

    @property
    def pixels(self) -> int:
        """Pixels in true cells."""
        return int(self.truth.sum())


@dataclass(frozen=True)
class FScore:
    """An F-score with its two halves: few mergers give `precision`, few splits give `recall`."""

    value: float
    precision: float
    recall: float


def _number(labels: NDArray[np.integer[Any]]) -> tuple[NDArray[np.integer[Any]], NDArray[np.int64]]:
    """Return the labels that occur, in order, and for each label its place among them."""
    if labels.size and labels.min() >= 0 and labels.max() < max(_FEWEST_PLACES, _PLACES_EACH * labels.size):
        # As indices, since other types would be converted at each use.
        at = labels.astype(np.intp, copy=False)
        occurs = np.zeros(int(labels.max()) + 1, bool)
        occurs[at] = True
        names = np.flatnonzero(occurs)
        # Only what is written of it takes memory.
        place = np.empty(occurs.size, np.int64)
        place[names] = np.arange(names.size)
        return names.astype(labels.dtype, copy=False), place.take(at)
    # Looked up, since numpy.unique takes four times as long where it is asked for the places too.
    names = np.unique(labels)
    return names, np.searchsorted(names, labels).astype(np.int64, copy=False)


def _add_up(at: NDArray[np.int64], pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pixels of each label that has any."""
    sums = np.bincount(at, pixels).astype(np.int64)
    occupied: NDArray[np.int64] = sums[sums != 0]
    return occupied
